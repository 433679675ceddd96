-- The last changes of each pool's number, of its last 500 decisions.
SELECT c.pool, c.at, c.before, c.desired, c.reason, c.explain, c.applied, c.outcome
FROM penstock.pool_state s
CROSS JOIN LATERAL (
    SELECT d.pool, d.at, lag(d.desired) OVER (ORDER BY d.at) AS before, d.desired, d.reason, d.explain, d.applied, d.outcome
    FROM (SELECT pool, at, desired, reason, explain, applied, outcome FROM penstock.decisions d
          WHERE d.pool = s.pool AND d.at > clock_timestamp() - interval '1 day'
          ORDER BY d.at DESC LIMIT 500) d
) c
WHERE c.before <> c.desired OR NOT c.applied
ORDER BY c.at DESC
LIMIT 8
