-- $1 items at most, $2 of one target, $3 targets that are being sent to.
-- Times are written as only one index has them: by another all other targets' items would be walked through.
-- The targets there are, each found by the one before it in the index, however many items it has.
WITH RECURSIVE there AS (
    (SELECT i.target FROM penstock.due_item i WHERE i.kind = 'tag' ORDER BY i.target LIMIT 1)
    UNION ALL
    SELECT (SELECT i.target FROM penstock.due_item i WHERE i.kind = 'tag' AND i.target > t.target
            ORDER BY i.target LIMIT 1)
    FROM there t
    WHERE t.target IS NOT NULL
),
-- Those that may be sent to, with the time of the oldest item.
waiting AS MATERIALIZED (
    SELECT t.target,
           (SELECT i.at FROM penstock.due_item i WHERE i.kind = 'tag' AND i.target = t.target
            ORDER BY i.at AT TIME ZONE 'UTC' LIMIT 1) AS since
    FROM there t
    WHERE 'tag ' || t.target <> ALL ($3)
)
SELECT i.id
FROM (SELECT w.target FROM waiting w WHERE w.since <= statement_timestamp() ORDER BY w.since, w.target) w
CROSS JOIN LATERAL (
    SELECT i.id, i.body
    FROM penstock.due_item i
    WHERE i.kind = 'tag' AND i.target = w.target
      AND i.at AT TIME ZONE 'UTC' <= statement_timestamp() AT TIME ZONE 'UTC'
    ORDER BY i.at AT TIME ZONE 'UTC', i.id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
) i
-- Until the end of the transaction nobody else claims items of this object, nor of others with its number; of these there
-- are few, for each takes room in the server's table of locks.
WHERE pg_try_advisory_xact_lock(hashtext('penstock.tagging'),
                                hashtext((i.body ->> 'bucket') || '/' || (i.body ->> 'key')) & 1023)
LIMIT $1
