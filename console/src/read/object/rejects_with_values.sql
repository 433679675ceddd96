-- $1 object, $2 most. For a role that may read payloads.
SELECT r.row_number,
       r.class,
       r.column_name,
       r.message,
       encode(substring(r.payload FOR 2000), 'escape') AS payload,
       r.payload_length,
       r.created_at,
       r.resolved_at
FROM penstock.reject r
WHERE r.object_id = $1
ORDER BY r.row_number, r.id
LIMIT $2
