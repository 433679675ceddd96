-- Who keeps sessions of ours waiting for a lock, and at which table, as far as this role may see it.
SELECT blocker.pid,
       coalesce(b.usename, '') AS role,
       coalesce(b.application_name, '') AS application,
       coalesce(b.state, '') AS doing,
       count(DISTINCT w.pid) AS n,
       min(w.query_start) AS since,
       (SELECT l.relation::regclass::text FROM pg_catalog.pg_locks l
        WHERE l.pid = min(w.pid) AND NOT l.granted AND l.relation IS NOT NULL LIMIT 1) AS relation
FROM pg_catalog.pg_stat_activity w
CROSS JOIN LATERAL unnest(pg_catalog.pg_blocking_pids(w.pid)) AS blocker (pid)
LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = blocker.pid
WHERE w.application_name LIKE 'penstock %'
  AND w.wait_event_type = 'Lock'
  AND w.state_change < clock_timestamp() - interval '2 seconds'
  AND w.datname = current_database()
  -- Whoever waits itself is not the cause.
  AND b.wait_event_type IS DISTINCT FROM 'Lock'
GROUP BY 1, 2, 3, 4
ORDER BY n DESC
LIMIT 10
