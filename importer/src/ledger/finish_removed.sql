-- $1 tombstone, $2 head, $3 sequencer and $4 last modified of the removal, $5 what was removed, $6 seconds,
-- $7 and $8 when the message was sent and first received.
-- The rows of every version of the key are gone from the table, and their ledger rows say so: put back, a version
-- counts as never imported. An unversioned key has one tombstone row, which takes the newest removal's stamp.
WITH gone AS (
    UPDATE penstock.object o
    SET state = 'gone', reason = 'removed', imported_at = NULL, finished_at = clock_timestamp()
    WHERE o.head_id = $2 AND NOT o.is_delete AND o.imported_at IS NOT NULL
), moved AS (
    UPDATE penstock.head SET object_id = $1 WHERE id = $2
)
UPDATE penstock.object
SET state = 'gone', reason = 'removed', sequencer = $3, last_modified = $4, error = $5, duration_seconds = $6,
    sent_at = $7, first_received_at = $8, finished_at = clock_timestamp()
WHERE id = $1
