-- title: Messages a day, by what became of them
-- chart: line
-- every: 5m
-- param days: integer = 90

SELECT
    date_trunc('day', observed_at)::date AS day,
    sum(message_count) FILTER (WHERE disposition = 'none') AS delivered,
    sum(message_count) FILTER (WHERE disposition = 'quarantine') AS quarantined,
    sum(message_count) FILTER (WHERE disposition = 'reject') AS rejected
FROM telemetry
WHERE observed_at > (SELECT max(observed_at) FROM telemetry) - $1 * interval '1 day'
GROUP BY day
ORDER BY day
