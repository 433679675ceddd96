-- The application name is set at connect: 'penstock importer ' || worker id, of which Postgres keeps 63 bytes.
-- It is asked for rather than the pids of the last heartbeat: a backend may be younger than that.
-- A worker whose heartbeat is missing is only taken for stopped when none of its sessions has said anything either: its
-- heartbeat's connection may be what is broken. And only backends that wait for it are ended: others are at work.
SELECT count(pg_catalog.pg_terminate_backend(pid))
FROM (
    SELECT a.pid,
           a.wait_event_type,
           max(greatest(a.backend_start, a.query_start, a.state_change)) OVER (PARTITION BY w.id)
               < clock_timestamp() - 2 * w.visibility_timeout_secs * interval '1 second' AS stopped
    FROM penstock.workers w
    JOIN pg_catalog.pg_stat_activity a ON a.application_name = left('penstock importer ' || w.id, 63)
        AND a.datname = current_database()
    WHERE w.heartbeat_at < clock_timestamp() - 2 * w.visibility_timeout_secs * interval '1 second'
      AND a.pid <> pg_backend_pid()
) backends
WHERE stopped AND wait_event_type = 'Client'
