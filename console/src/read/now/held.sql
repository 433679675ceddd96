-- Objects that are tried again, or that are being imported for a quarter of an hour, of the first 2,000 unfinished ones.
SELECT h.dataset,
       o.state,
       coalesce(o.reason, '') AS reason,
       count(*) AS n,
       min(o.started_at) AS since,
       max(o.started_at) AS latest,
       (array_agg(o.id ORDER BY o.started_at))[1] AS object_id,
       (array_agg(h.bucket ORDER BY o.started_at))[1] AS bucket,
       (array_agg(h.key ORDER BY o.started_at))[1] AS key,
       (array_agg(o.error ORDER BY o.started_at))[1] AS said
FROM (SELECT u.object_id FROM penstock.unfinished u LIMIT 2000) u
JOIN penstock.object o ON o.id = u.object_id
JOIN penstock.head h ON h.id = o.head_id
WHERE o.state = 'retrying' OR o.state = 'importing' AND o.started_at < clock_timestamp() - interval '15 minutes'
GROUP BY h.dataset, o.state, 3
ORDER BY n DESC
LIMIT 40
