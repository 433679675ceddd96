-- $1 items that are due, whose objects nobody else claims meanwhile, $2 how long a claim is exclusive.
-- Reading and writing an object's tags are two calls, so one item of an object is out at a time: the oldest, and none
-- where another may be at work. Later than in two claims' time an item is only left alone after a refusal.
WITH free AS (
    SELECT DISTINCT ON (i.body ->> 'bucket', i.body ->> 'key') i.id
    FROM penstock.due_item i
    WHERE i.id = ANY ($1)
      -- The first item after now, in the order of an index: where it is another object's, there is none of this one.
      AND (SELECT o.body ->> 'bucket' = i.body ->> 'bucket' AND o.body ->> 'key' = i.body ->> 'key'
                  AND o.at <= statement_timestamp() + 2 * $2
           FROM penstock.due_item o
           WHERE o.kind = 'tag'
             AND (o.body ->> 'bucket', o.body ->> 'key', o.at)
                 > (i.body ->> 'bucket', i.body ->> 'key', statement_timestamp())
           ORDER BY o.body ->> 'bucket', o.body ->> 'key', o.at
           LIMIT 1) IS NOT TRUE
    ORDER BY i.body ->> 'bucket', i.body ->> 'key', i.at, i.id
)
UPDATE penstock.due_item i
SET at = clock_timestamp() + $2, attempts = i.attempts + 1
FROM free
WHERE i.id = free.id
RETURNING i.id, 'tag ' || i.target AS target, i.body::text AS body, i.attempts
