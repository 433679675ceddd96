-- $1 items that were sent; of those that were not: $2 items, $3 why, $4 seconds to leave them alone.
WITH done AS (
    DELETE FROM penstock.due_item WHERE id = ANY ($1)
)
UPDATE penstock.due_item i
SET at = clock_timestamp() + make_interval(secs => refused.pause), error = refused.error
FROM unnest($2::bigint[], $3::text[], $4::float8[]) AS refused (id, error, pause)
WHERE i.id = refused.id
