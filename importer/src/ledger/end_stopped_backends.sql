-- The application name is set at connect: 'penstock importer ' || worker id, of which Postgres keeps 63 bytes.
-- It is asked for rather than the pids of the last heartbeat: a backend may be younger than that.
SELECT count(pg_terminate_backend(a.pid))
FROM penstock.workers w
JOIN pg_catalog.pg_stat_activity a ON a.application_name = left('penstock importer ' || w.id, 63)
    AND a.datname = current_database()
WHERE w.heartbeat_at < clock_timestamp() - 2 * w.visibility_timeout_secs * interval '1 second'
  AND a.pid <> pg_backend_pid()
