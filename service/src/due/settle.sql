-- $1 items that were sent; of those that were not: $2 items, $3 why, $4 seconds to leave them alone.
-- What runs an object again by time comes again until that run has begun another wait, or ended it.
WITH again AS (
    UPDATE penstock.due_item i
    SET at = clock_timestamp() + interval '1 hour', attempts = 0, error = NULL
    FROM penstock.waiting_object w
    WHERE i.id = ANY ($1) AND i.event = 'again' AND w.object_id = i.object_id
      AND w.until > clock_timestamp() - interval '1 day'
    RETURNING i.id
), done AS (
    DELETE FROM penstock.due_item WHERE id = ANY ($1) AND id NOT IN (SELECT id FROM again)
)
UPDATE penstock.due_item i
SET at = clock_timestamp() + make_interval(secs => refused.pause), error = refused.error
FROM unnest($2::bigint[], $3::text[], $4::float8[]) AS refused (id, error, pause)
WHERE i.id = refused.id
