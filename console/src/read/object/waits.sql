-- $1 object. What it waits for, by column; keys are counted up to 1,000 only.
SELECT a.lookup, a.field, w.since, w.until, count(*) AS n, min(k.again_at) AS again_at
FROM penstock.waiting_object w
CROSS JOIN LATERAL (
    SELECT k.awaited_id, k.again_at FROM penstock.waiting_key k WHERE k.head_id = w.head_id LIMIT 1001
) k
JOIN penstock.awaited a ON a.id = k.awaited_id
WHERE w.object_id = $1
GROUP BY a.id, w.head_id
ORDER BY a.lookup
