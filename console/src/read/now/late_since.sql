-- $1 pool. Since when its oldest message is older than promised without a break, of its last 1,000 decisions.
SELECT min(d.at)
FROM (
    SELECT d.at, bool_and(d.is_late) OVER (ORDER BY d.at DESC) AS is_still
    FROM (
        SELECT d.at, coalesce((d.inputs ->> 'age_secs')::float8 > (d.inputs ->> 'promised_secs')::float8, false) AS is_late
        FROM penstock.decisions d
        WHERE d.pool = $1
        ORDER BY d.at DESC LIMIT 1000
    ) d
) d
WHERE d.is_still
