-- $1 bucket, $2 key; both NULL: every object.
-- Objects with rejects that wait, in the order in which they were first seen.
SELECT o.id AS object_id,
       o.head_id,
       h.dataset,
       h.bucket,
       h.key,
       o.version_id,
       o.csv_fields,
       count(*) AS n_rejects,
       coalesce(array_agg(DISTINCT r.payload_form) FILTER (WHERE r.payload_form IS NOT NULL), '{}') AS forms
FROM penstock.reject r
JOIN penstock.object o ON o.id = r.object_id
JOIN penstock.head h ON h.id = o.head_id
WHERE r.resolved_at IS NULL
  AND ($1::text IS NULL OR (h.bucket = $1 AND h.key = $2::text))
GROUP BY o.id, h.id
ORDER BY o.id
