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
       d.inputs,
       p.pause
FROM penstock.pool_state s
LEFT JOIN LATERAL (
    SELECT * FROM penstock.decisions d WHERE d.pool = s.pool ORDER BY d.at DESC LIMIT 1
) d ON true
LEFT JOIN LATERAL (
    SELECT jsonb_build_object('at', s.pause_size, 'until', s.pause_until, 'by', s.paused_by) AS pause
    WHERE s.pause_until > clock_timestamp()
) p ON true
WHERE s.updated_at > clock_timestamp() - interval '3 days'
ORDER BY s.pool
LIMIT 100
