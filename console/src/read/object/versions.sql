-- $1 bucket, $2 key, $3 most. The versions of a key in every dataset, the latest seen first.
SELECT o.id, h.dataset, o.version_id, o.etag, o.size, o.is_delete, o.state, o.reason, o.rows_written,
       o.first_seen_at, o.imported_at, coalesce(h.object_id = o.id, false) AS stands
FROM penstock.head h
JOIN penstock.object o ON o.head_id = h.id
WHERE h.bucket = $1 AND h.key = $2
ORDER BY o.id DESC
LIMIT $3
