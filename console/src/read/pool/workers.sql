-- $1 most. Those that are silent for longest first.
SELECT w.id, w.host, w.version, w.state, w.slots, w.in_flight, w.queue_url, w.heartbeat_at, w.started_at,
       extract(epoch FROM w.first_receive_at - w.started_at)::float8 AS start_secs
FROM penstock.workers w
ORDER BY w.heartbeat_at, w.id
LIMIT $1
