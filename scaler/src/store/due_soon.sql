-- $1 queue URLs, $2 horizon in seconds, $3 limit: pointers that go to these queues by then. What was tried in vain several
-- times may never get there.
SELECT count(*)
FROM (
    SELECT
    FROM penstock.due_item i
    JOIN penstock.step s ON s.dataset = i.target AND s.queue_url = ANY ($1)
    WHERE i.kind = 'step'
      AND i.at <= clock_timestamp() + make_interval(secs => $2)
      AND i.attempts < 3
    LIMIT $3
) soon
