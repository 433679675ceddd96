-- $1 object, $2 head, $3 sequencer, $4 last modified, $5..$9 counts, $10 bytes, $11 technique, $12 seconds, $13 version id,
-- $14 fields of a CSV object with rejects, $15 etag, $16 size, $17 rows added, $18 recipe,
-- $19 and $20 when the message was sent and first received, $21 the dataset whose import it follows.
-- The stamp only ever grows, and as a whole.
-- The version id is filled in where the event had none, unless another row has that identity already; a row that was
-- found by its version id takes the ETag and the size that were read.
-- What else was begun of the key and is no newer is overtaken: whoever began it was killed, or will be told so by the
-- fence, and its message may be about another version by now.
-- Rejects of this transaction are told by their time, which is the transaction's.
WITH head AS (
    UPDATE penstock.head SET object_id = $1 WHERE id = $2
), earlier AS (
    DELETE FROM penstock.reject WHERE object_id = $1 AND resolved_at IS NULL AND created_at <> now()
), overtaken AS (
    UPDATE penstock.object b
    SET state = 'superseded', reason = 'overtaken', error = NULL, finished_at = clock_timestamp()
    FROM penstock.object own
    WHERE own.id = $1
      AND b.head_id = $2
      AND b.id <> $1
      AND NOT b.is_delete
      AND b.state IN ('importing', 'retrying')
      AND coalesce(penstock.is_no_later(b.sequencer, b.last_modified,
                                        coalesce($3, own.sequencer), greatest($4, own.last_modified)),
                   b.etag IS NULL OR b.size IS NULL)
)
UPDATE penstock.object o
SET state = 'imported',
    reason = NULL,
    error = NULL,
    version_id = CASE WHEN o.version_id IS NULL AND NOT EXISTS (
                          SELECT FROM penstock.object other WHERE other.head_id = $2 AND other.version_id = $13)
                      THEN $13 ELSE o.version_id END,
    etag = CASE WHEN o.version_id = $13 THEN $15 ELSE o.etag END,
    size = CASE WHEN o.version_id = $13 THEN $16 ELSE o.size END,
    sequencer = penstock.later_sequencer(o.sequencer, o.last_modified, $3, $4),
    last_modified = greatest(o.last_modified, $4),
    rows_read = $5,
    rows_added = $17,
    rows_written = $6,
    rows_merged = $7,
    rows_filtered = $8,
    rows_rejected = $9,
    bytes = $10,
    csv_fields = $14,
    recipe = $18,
    sent_at = $19,
    first_received_at = $20,
    after = $21,
    technique = $11,
    duration_seconds = $12,
    imported_at = clock_timestamp(),
    finished_at = clock_timestamp(),
    forwarded_message_id = NULL
WHERE o.id = $1
