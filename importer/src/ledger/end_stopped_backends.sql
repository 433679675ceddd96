-- The application name is written by the importer at connect: 'penstock importer ' || worker id, cut at 63 bytes.
SELECT count(pg_terminate_backend(a.pid))
FROM penstock.workers w
JOIN pg_catalog.pg_stat_activity a
  ON a.pid = ANY (w.backends) AND a.application_name = left('penstock importer ' || w.id, 63)
WHERE w.heartbeat_at < clock_timestamp() - 2 * w.visibility_timeout_secs * interval '1 second'
  AND a.pid <> pg_backend_pid()
