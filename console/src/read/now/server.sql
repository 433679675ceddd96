-- How busy the server is; a role that may not see others' activity still sees their number.
SELECT current_setting('max_connections')::bigint AS max_connections,
       greatest(current_setting('max_connections')::bigint
                - current_setting('superuser_reserved_connections')::bigint
                - count(*) FILTER (WHERE backend_type = 'client backend' OR backend_type IS NULL), 0) AS free_connections,
       count(*) FILTER (WHERE application_name LIKE 'penstock importer%') AS importer_backends,
       count(*) FILTER (WHERE application_name LIKE 'penstock importer%' AND state = 'active') AS active_backends,
       count(*) FILTER (WHERE application_name LIKE 'penstock importer%'
                          AND wait_event_type = 'Lock'
                          AND clock_timestamp() - state_change > interval '2 seconds') AS waiting_for_locks,
       max(extract(epoch FROM clock_timestamp() - xact_start))
           FILTER (WHERE backend_type = 'client backend')::float8 AS longest_secs,
       current_setting('server_version') AS version,
       pg_catalog.pg_is_in_recovery() AS is_replica
FROM pg_catalog.pg_stat_activity
