-- $1 pool, $2 most. The last decisions that changed its number or its reason, or were not carried out; of the last 2,000.
SELECT d.at, d.desired, d.reason, d.explain, d.applied, d.outcome
FROM (
    SELECT d.at,
           d.desired,
           d.reason,
           d.explain,
           d.applied,
           d.outcome,
           lag(d.desired) OVER w IS DISTINCT FROM d.desired OR lag(d.reason) OVER w IS DISTINCT FROM d.reason AS is_new
    FROM (SELECT d.at, d.desired, d.reason, d.explain, d.applied, d.outcome
          FROM penstock.decisions d WHERE d.pool = $1 ORDER BY d.at DESC LIMIT 2000) d
    WINDOW w AS (ORDER BY d.at)
) d
WHERE d.is_new OR NOT d.applied OR d.outcome IS NOT NULL
ORDER BY d.at DESC
LIMIT $2
