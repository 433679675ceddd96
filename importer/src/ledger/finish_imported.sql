-- $1 object, $2 head, $3 sequencer, $4 last modified, $5..$9 counts, $10 bytes, $11 technique, $12 seconds, $13 version id,
-- $14 fields of a CSV object with rejects.
-- The stamp only ever grows, and as a whole: a sighting of later Last-Modified takes the sequencer away when it
-- brings none, for the old one belongs to an earlier put of the same bytes.
-- The version id is filled in where the event had none, unless another row has that identity already.
-- Rejects of this transaction are told by their time, which is the transaction's.
WITH head AS (
    UPDATE penstock.head SET object_id = $1 WHERE id = $2
), earlier AS (
    DELETE FROM penstock.reject WHERE object_id = $1 AND resolved_at IS NULL AND created_at <> now()
)
UPDATE penstock.object o
SET state = 'imported',
    reason = NULL,
    error = NULL,
    version_id = CASE WHEN o.version_id IS NULL AND NOT EXISTS (
                          SELECT FROM penstock.object other WHERE other.head_id = $2 AND other.version_id = $13)
                      THEN $13 ELSE o.version_id END,
    sequencer = CASE WHEN o.sequencer IS NOT NULL AND $3::text IS NOT NULL THEN
                        CASE WHEN rpad(o.sequencer, greatest(length(o.sequencer), length($3)), '0') COLLATE "C"
                                > rpad($3, greatest(length(o.sequencer), length($3)), '0') COLLATE "C"
                             THEN o.sequencer ELSE $3 END
                    WHEN $4::timestamptz > o.last_modified THEN $3
                    WHEN $4::timestamptz < o.last_modified THEN o.sequencer
                    ELSE coalesce(o.sequencer, $3) END,
    last_modified = greatest(o.last_modified, $4),
    rows_read = $5,
    rows_written = $6,
    rows_merged = $7,
    rows_filtered = $8,
    rows_rejected = $9,
    bytes = $10,
    csv_fields = $14,
    technique = $11,
    duration_seconds = $12,
    imported_at = clock_timestamp(),
    finished_at = clock_timestamp(),
    forwarded_message_id = NULL
WHERE o.id = $1
