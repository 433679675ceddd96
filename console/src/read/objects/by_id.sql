-- $1 from this id downwards, $2 not below this one, $3 dataset, $4 state, $5 reason, $6 most, $7 entries looked at.
-- {source} has the ids of the entries that may have the state, and {of} says which of them may be of the dataset.
SELECT o.id, h.dataset, h.bucket, h.key, o.version_id, o.is_delete, o.state, o.reason, o.attempts, o.rows_read,
       o.rows_written, o.rows_rejected, o.first_seen_at, o.imported_at, coalesce(h.object_id = o.id, false) AS stands
FROM (SELECT c.id FROM ({source} LIMIT $7) c WHERE {of}) c
JOIN penstock.object o ON o.id = c.id
JOIN penstock.head h ON h.id = o.head_id
WHERE ($3::text IS NULL OR h.dataset = $3)
  AND ($4::text IS NULL OR o.state = $4)
  AND ($5::text IS NULL OR o.reason = $5)
ORDER BY c.id DESC
LIMIT $6
