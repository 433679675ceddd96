-- $1 the configuration's datasets. What the ledger has of others.
SELECT dataset, sum(n_heads)::bigint AS n_heads, sum(n_waits)::bigint AS n_waits, sum(n_due)::bigint AS n_due
FROM (
    SELECT dataset, count(*) AS n_heads, 0 AS n_waits, 0 AS n_due
    FROM penstock.head
    GROUP BY dataset
    UNION ALL
    SELECT h.dataset, 0, count(*), 0
    FROM penstock.waiting_object w
    JOIN penstock.head h ON h.id = w.head_id
    GROUP BY h.dataset
    UNION ALL
    SELECT target, 0, 0, count(*)
    FROM penstock.due_item
    WHERE kind <> 'notify'
    GROUP BY target
) AS each
WHERE dataset <> '' AND dataset <> ALL ($1)
GROUP BY dataset
ORDER BY dataset
