-- $1 items at most, $2 how long a claim is exclusive, $3 targets that are being sent to.
-- Reading and writing an object's tags are two calls, so at most one item of an object is out at a time: none while
-- another may be at work or is left alone after a refusal, and of several the oldest.
WITH claimed AS (
    SELECT i.id
    FROM penstock.due_item i
    WHERE i.kind = 'tag'
      AND i.at <= statement_timestamp()
      AND 'tag ' || i.target <> ALL ($3)
      AND NOT EXISTS (SELECT
                      FROM penstock.due_item o
                      WHERE o.kind = 'tag'
                        AND o.body ->> 'bucket' = i.body ->> 'bucket'
                        AND o.body ->> 'key' = i.body ->> 'key'
                        AND (o.at > statement_timestamp() OR o.id < i.id))
    ORDER BY i.at, i.id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
UPDATE penstock.due_item i
SET at = clock_timestamp() + $2, attempts = i.attempts + 1
FROM claimed
WHERE i.id = claimed.id
RETURNING i.id, 'tag ' || i.target AS target, i.body::text AS body, i.attempts
