-- What was tried to be sent and could not be, of the 1,000 items that wait for longest.
SELECT i.kind,
       i.target,
       count(*) AS n,
       min(i.created_at) AS since,
       max(i.attempts) AS attempts,
       (array_agg(i.error ORDER BY i.id DESC))[1] AS said
FROM (SELECT i.id, i.kind, i.target, i.created_at, i.attempts, i.error
      FROM penstock.due_item i ORDER BY i.at LIMIT 1000) i
WHERE i.error IS NOT NULL
GROUP BY 1, 2
ORDER BY n DESC
LIMIT 20
