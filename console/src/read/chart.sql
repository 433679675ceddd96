-- $1 pool, $2 seconds back, $3 intervals. The last decision of each interval, found by a step in the index.
SELECT b.at,
       d.desired,
       (coalesce((d.inputs -> 'pool' ->> 'starting')::float8, 0) + coalesce((d.inputs -> 'pool' ->> 'idle')::float8, 0)
        + coalesce((d.inputs -> 'pool' ->> 'busy')::float8, 0)) AS running,
       (d.inputs -> 'queue' ->> 'visible')::float8 + (d.inputs -> 'queue' ->> 'in_flight')::float8 AS depth,
       (d.inputs ->> 'arrivals_per_sec')::float8 * 60 AS arriving
FROM (
    SELECT now() - make_interval(secs => $2 * (1 - n::float8 / $3)) AS at,
           make_interval(secs => greatest($2 / $3, 120)) AS reach
    FROM generate_series(1, $3) n
) b
LEFT JOIN LATERAL (
    SELECT d.desired, d.inputs FROM penstock.decisions d
    WHERE d.pool = $1 AND d.at <= b.at AND d.at > b.at - b.reach
    ORDER BY d.at DESC LIMIT 1
) d ON true
ORDER BY b.at
