-- Every dataset that imported within 30 days, from the minutes that are over and from what was finished since.
WITH RECURSIVE name AS (
    (SELECT m.dataset FROM penstock.dataset_minute m ORDER BY m.dataset LIMIT 1)
    UNION ALL
    SELECT (SELECT m.dataset FROM penstock.dataset_minute m WHERE m.dataset > n.dataset ORDER BY m.dataset LIMIT 1)
    FROM name n
    WHERE n.dataset IS NOT NULL
),
over AS (
    SELECT n.dataset, m.at + interval '1 minute' AS newest_import, m.newest_event, m.lag_p50, m.lag_p95
    FROM (SELECT dataset FROM name WHERE dataset IS NOT NULL LIMIT 200) n
    CROSS JOIN LATERAL (
        SELECT * FROM penstock.dataset_minute m
        WHERE m.dataset = n.dataset AND m.n_imported > 0 AND m.at > clock_timestamp() - interval '30 days'
        ORDER BY m.at DESC LIMIT 1
    ) m
),
recent AS (
    SELECT f.object_id, f.at FROM penstock.finished f
    WHERE f.at > clock_timestamp() - interval '15 minutes'
    ORDER BY f.at DESC LIMIT 2000
),
live AS (
    SELECT h.dataset,
           count(*) AS n,
           max(o.imported_at) AS newest_import,
           max(o.event_time) AS newest_event,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM o.imported_at - o.event_time)::float8) AS lag_p50,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM o.imported_at - o.event_time)::float8) AS lag_p95
    FROM recent r
    JOIN penstock.object o ON o.id = r.object_id AND o.finished_at = r.at
    JOIN penstock.head h ON h.id = o.head_id
    WHERE o.state = 'imported' AND o.imported_at >= r.at - interval '1 second'
    GROUP BY 1
)
SELECT coalesce(l.dataset, o.dataset) AS dataset,
       coalesce(l.n, 0) AS n_recent,
       coalesce(l.newest_import, o.newest_import) AS newest_import,
       greatest(l.newest_event, o.newest_event) AS newest_event,
       extract(epoch FROM clock_timestamp() - coalesce(l.newest_import, o.newest_import))::float8 AS quiet_secs,
       CASE WHEN l.n > 0 THEN l.lag_p50 ELSE o.lag_p50 END AS lag_p50,
       CASE WHEN l.n > 0 THEN l.lag_p95 ELSE o.lag_p95 END AS lag_p95
FROM live l
FULL JOIN over o ON o.dataset = l.dataset
ORDER BY quiet_secs DESC, dataset
LIMIT 200
