-- $1 object, $2 most.
SELECT r.row_number, r.class, r.column_name, r.message, NULL::text AS payload, r.payload_length, r.created_at, r.resolved_at
FROM penstock.reject r
WHERE r.object_id = $1
ORDER BY r.row_number, r.id
LIMIT $2
