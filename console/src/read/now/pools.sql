-- Every pool that decided within three days, with its last decision.
SELECT s.pool,
       s.leader,
       greatest(extract(epoch FROM clock_timestamp() - s.updated_at), 0)::float8 AS silent_secs,
       d.at,
       d.desired,
       d.reason,
       d.explain,
       d.applied,
       d.outcome,
       d.inputs
FROM penstock.pool_state s
LEFT JOIN LATERAL (
    SELECT * FROM penstock.decisions d WHERE d.pool = s.pool ORDER BY d.at DESC LIMIT 1
) d ON true
WHERE s.updated_at > clock_timestamp() - interval '3 days'
ORDER BY s.pool
LIMIT 100
