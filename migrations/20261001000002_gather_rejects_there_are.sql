-- no-transaction
-- Rejects that waited before they were gathered.
INSERT INTO penstock.problem (object_id, head_id, kind, dataset, reason, column_name, n, at)
SELECT o.id, o.head_id, 'rejected', h.dataset, r.class, coalesce(r.column_name, ''), count(*), min(r.created_at)
FROM penstock.reject r
JOIN penstock.object o ON o.id = r.object_id
JOIN penstock.head h ON h.id = o.head_id
WHERE r.resolved_at IS NULL
  AND NOT EXISTS (SELECT FROM penstock.problem p WHERE p.object_id = o.id AND p.kind = 'rejected')
GROUP BY o.id, h.id, r.class, r.column_name;
