-- $1 queue URLs. Ages are taken here, by one clock.
SELECT id,
       host,
       pid,
       instance_id,
       state,
       slots,
       in_flight,
       empty_polls,
       first_receive_at,
       receives,
       redeliveries,
       oldest_receive_count,
       greatest(extract(epoch FROM clock_timestamp() - heartbeat_at), 0)::double precision AS silent_secs,
       greatest(extract(epoch FROM clock_timestamp() - oldest_sent_at), 0)::double precision AS oldest_age_secs
FROM penstock.workers
WHERE queue_url = ANY ($1)
  AND heartbeat_at > clock_timestamp() - interval '1 hour'
