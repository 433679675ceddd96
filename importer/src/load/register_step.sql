-- $1 dataset, $2 the datasets it follows, $3 name and $4 URL of its queue; $5 it follows no others that are known.
-- A configuration without the URL leaves the one that is known of the same queue.
INSERT INTO penstock.step AS known (dataset, after, queue, queue_url)
VALUES ($1, $2, $3, $4)
ON CONFLICT (dataset) DO UPDATE
SET after = CASE WHEN $5 THEN excluded.after
                 ELSE known.after || ARRAY(SELECT unnest(excluded.after) EXCEPT SELECT unnest(known.after)) END,
    queue = excluded.queue,
    queue_url = coalesce(excluded.queue_url, CASE WHEN known.queue = excluded.queue THEN known.queue_url END),
    registered_at = now()
WHERE NOT known.after @> excluded.after
   OR $5 AND known.after <> excluded.after
   OR known.queue <> excluded.queue
   OR known.queue_url IS DISTINCT FROM coalesce(excluded.queue_url, known.queue_url)
