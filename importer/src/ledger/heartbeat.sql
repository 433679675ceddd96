INSERT INTO penstock.workers
    (id, host, pid, instance_id, version, state, slots, in_flight, empty_polls, listen, backends, queue_url,
     visibility_timeout_secs, started_at, first_receive_at, receives, redeliveries, oldest_sent_at,
     oldest_receive_count, heartbeat_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, clock_timestamp())
ON CONFLICT (id) DO UPDATE
SET state = excluded.state,
    in_flight = excluded.in_flight,
    empty_polls = excluded.empty_polls,
    listen = excluded.listen,
    backends = excluded.backends,
    first_receive_at = excluded.first_receive_at,
    receives = excluded.receives,
    redeliveries = excluded.redeliveries,
    oldest_sent_at = excluded.oldest_sent_at,
    oldest_receive_count = excluded.oldest_receive_count,
    heartbeat_at = excluded.heartbeat_at
