-- $1 dataset, $2 the datasets it follows, $3 name and $4 URL of its queue.
-- A configuration without the URL leaves the one that is known of the same queue.
INSERT INTO penstock.step AS known (dataset, after, queue, queue_url)
VALUES ($1, $2, $3, $4)
ON CONFLICT (dataset) DO UPDATE
SET after = excluded.after,
    queue = excluded.queue,
    queue_url = coalesce(excluded.queue_url, CASE WHEN known.queue = excluded.queue THEN known.queue_url END),
    registered_at = now()
WHERE known.after <> excluded.after
   OR known.queue <> excluded.queue
   OR known.queue_url IS DISTINCT FROM coalesce(excluded.queue_url, known.queue_url)
