-- $1 dataset, $2 class, $3 column or '', $4 most. At most five of each of the last objects.
SELECT p.object_id, h.bucket, h.key, r.row_number, r.message, r.payload, r.created_at
FROM (
    SELECT p.object_id, p.head_id, p.at FROM penstock.problem p
    WHERE (p.kind, p.dataset, p.reason, p.column_name) = ('rejected', $1, $2, $3)
    ORDER BY p.at DESC LIMIT $4
) p
JOIN penstock.head h ON h.id = p.head_id
CROSS JOIN LATERAL (
    SELECT r.row_number, r.message, {payload} AS payload, r.created_at
    FROM penstock.reject r
    WHERE r.object_id = p.object_id AND r.class = $2 AND coalesce(r.column_name, '') = $3 AND r.resolved_at IS NULL
    ORDER BY r.row_number
    LIMIT 5
) r
ORDER BY p.at DESC, p.object_id, r.row_number
LIMIT $4
