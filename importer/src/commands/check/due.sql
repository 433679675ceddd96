-- What was refused, by target.
SELECT target, count(*) AS n, (extract(epoch FROM clock_timestamp() - min(created_at)) / 60)::bigint AS minutes,
       max(error) AS error
FROM penstock.due
WHERE error IS NOT NULL
GROUP BY target
ORDER BY target
