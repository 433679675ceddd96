SELECT a.pid,
       coalesce(a.state, 'of unknown state') AS state,
       coalesce(a.wait_event_type = 'Client', false) AS waits_for_us,
       /*unseen*/ AS gets_on_unseen,
       concat_ws(' ', a.backend_start, a.state, a.state_change, a.query_start, /*copied*/) AS at
FROM pg_catalog.pg_stat_activity a
WHERE a.pid = ANY ($1)
