-- $1 head, $2 object that stands, $3 object that was seen, $4 sequencer and $5 last modified of the sighting.
-- The head is locked as every writer locks it; no row comes out when another version stands by now.
-- The stamp only ever grows, and as a whole.
-- What else was begun of the key and is no newer is overtaken, as in finish_imported.sql.
WITH head AS (
    SELECT id FROM penstock.head WHERE id = $1 AND object_id = $2 FOR NO KEY UPDATE
), moved AS (
    UPDATE penstock.head h SET object_id = $3 FROM head WHERE h.id = head.id AND $2 <> $3::bigint
), overtaken AS (
    UPDATE penstock.object b
    SET state = 'superseded', reason = 'overtaken', error = NULL, finished_at = clock_timestamp()
    FROM penstock.object own JOIN head ON head.id = own.head_id
    WHERE own.id = $3
      AND b.head_id = own.head_id
      AND b.id <> own.id
      AND NOT b.is_delete
      AND b.state IN ('importing', 'retrying')
      AND coalesce(penstock.is_no_later(b.sequencer, b.last_modified,
                                        coalesce($4, own.sequencer), greatest($5, own.last_modified)),
                   b.etag IS NULL OR b.size IS NULL)
)
UPDATE penstock.object o
SET state = CASE WHEN o.imported_at IS NULL THEN o.state ELSE 'imported' END,
    reason = 'already_imported',
    error = NULL,
    sequencer = penstock.later_sequencer(o.sequencer, o.last_modified, $4, $5),
    last_modified = greatest(o.last_modified, $5),
    finished_at = clock_timestamp()
FROM head
WHERE o.id = $3
