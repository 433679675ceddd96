-- $1 tombstone, $2 head, $3 what was removed, $4 seconds.
-- The version that stood is gone from the table, and its row says so.
WITH head AS (
    SELECT object_id FROM penstock.head WHERE id = $2
), stood AS (
    UPDATE penstock.object o
    SET state = 'gone', reason = 'removed', finished_at = clock_timestamp()
    FROM head
    WHERE o.id = head.object_id AND o.id <> $1
), moved AS (
    UPDATE penstock.head SET object_id = $1 WHERE id = $2
)
UPDATE penstock.object
SET state = 'gone', reason = 'removed', error = NULL, duration_seconds = $4, finished_at = clock_timestamp()
WHERE id = $1
