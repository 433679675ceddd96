-- $1 object, $2 head, $3 sequencer, $4 last modified, $5..$9 counts, $10 bytes, $11 technique, $12 seconds, $13 version id.
-- The sequencer only ever grows: the same content put again carries a newer one.
WITH head AS (
    UPDATE penstock.head SET object_id = $1 WHERE id = $2
)
UPDATE penstock.object
SET state = 'imported',
    reason = NULL,
    error = NULL,
    version_id = coalesce(version_id, $13),
    sequencer = CASE WHEN sequencer IS NULL OR $3::text IS NULL THEN coalesce($3, sequencer)
                     WHEN rpad(sequencer, greatest(length(sequencer), length($3)), '0') COLLATE "C"
                        > rpad($3, greatest(length(sequencer), length($3)), '0') COLLATE "C" THEN sequencer
                     ELSE $3 END,
    last_modified = coalesce(greatest(last_modified, $4), $4),
    rows_read = $5,
    rows_written = $6,
    rows_merged = $7,
    rows_filtered = $8,
    rows_rejected = $9,
    bytes = $10,
    technique = $11,
    duration_seconds = $12,
    imported_at = clock_timestamp(),
    finished_at = clock_timestamp(),
    forwarded_message_id = NULL
WHERE id = $1
