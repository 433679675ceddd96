-- $1 the configuration's datasets. Those that the ledger has objects of besides.
SELECT dataset, count(*) AS n_heads
FROM penstock.head
WHERE dataset <> '' AND dataset <> ALL ($1)
GROUP BY dataset
ORDER BY dataset
