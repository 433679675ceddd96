-- The application name as in end_stopped_backends.sql.
DELETE FROM penstock.workers w
WHERE w.heartbeat_at < clock_timestamp() - interval '1 hour'
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_stat_activity a
      WHERE a.application_name = left('penstock importer ' || w.id, 63) AND a.datname = current_database())
