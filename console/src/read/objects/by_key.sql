-- $1 bucket, $2 from this key on, $3 before this key, $4 and $5 after this key and head, $6 dataset, $7 state, $8 reason,
-- $9 and $10 first seen between, $11 most, $12 heads looked at. Texts are compared byte by byte, as the index has them.
SELECT o.id, h.dataset, h.bucket, h.key, o.version_id, o.is_delete, o.state, o.reason, o.attempts, o.rows_read,
       o.rows_written, o.rows_rejected, o.first_seen_at, o.imported_at, coalesce(h.object_id = o.id, false) AS stands
FROM (
    SELECT h.* FROM penstock.head h
    WHERE h.bucket = $1 AND h.key ~>=~ $2 AND ($3::text IS NULL OR h.key ~<~ $3)
      AND ($4::text IS NULL OR h.key ~>=~ $4) AND ($4::text IS NULL OR h.key ~>~ $4 OR h.id > $5)
    ORDER BY h.bucket USING ~<~, h.key USING ~<~
    LIMIT $12
) h
JOIN penstock.object o ON o.head_id = h.id
WHERE ($6::text IS NULL OR h.dataset = $6)
  AND ($7::text IS NULL OR o.state = $7)
  AND ($8::text IS NULL OR o.reason = $8)
  AND ($9::timestamptz IS NULL OR o.first_seen_at >= $9)
  AND ($10::timestamptz IS NULL OR o.first_seen_at < $10)
ORDER BY h.key USING ~<~, h.id, o.id
LIMIT $11
