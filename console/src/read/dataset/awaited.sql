-- $1 dataset. What its objects wait for, and whose objects wait for its.
SELECT a.dataset, a.field, a.lookup, a.fillers,
       (SELECT count(*) FROM (SELECT FROM penstock.waiting_key k WHERE k.awaited_id = a.id LIMIT 1001) k) AS n
FROM penstock.awaited a
WHERE a.dataset = $1 OR $1 = ANY (a.fillers)
ORDER BY a.dataset, a.lookup
LIMIT 100
