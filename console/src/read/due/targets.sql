-- By where it goes, of the 5,000 items that are sent next, and the looks for keys.
SELECT d.kind, d.target, d.place, d.n, d.n_overdue, d.n_refused, d.since, d.next_at, d.attempts, d.error
FROM (
    SELECT i.kind,
           i.target,
           CASE i.kind WHEN 'step' THEN (SELECT coalesce(s.queue_url, s.queue) FROM penstock.step s WHERE s.dataset = i.target)
                       ELSE (SELECT n.target FROM penstock.notification n WHERE n.name = i.target) END AS place,
           count(*) AS n,
           count(*) FILTER (WHERE i.at < clock_timestamp()) AS n_overdue,
           count(*) FILTER (WHERE i.error IS NOT NULL) AS n_refused,
           min(i.created_at) AS since,
           min(i.at) AS next_at,
           max(i.attempts) AS attempts,
           (array_agg(i.error ORDER BY i.id DESC) FILTER (WHERE i.error IS NOT NULL))[1] AS error
    FROM (SELECT i.id, i.kind, i.target, i.at, i.created_at, i.attempts, i.error
          FROM penstock.due_item i ORDER BY i.at LIMIT 5000) i
    GROUP BY i.kind, i.target
    UNION ALL
    SELECT 'recheck', r.lookup, NULL, count(*), count(*) FILTER (WHERE r.at < clock_timestamp()),
           count(*) FILTER (WHERE r.error IS NOT NULL), min(r.created_at), min(r.at), max(r.attempts),
           (array_agg(r.error ORDER BY r.id DESC) FILTER (WHERE r.error IS NOT NULL))[1]
    FROM (SELECT r.id, r.lookup, r.at, r.created_at, r.attempts, r.error FROM penstock.recheck_item r LIMIT 5000) r
    GROUP BY r.lookup
) d
ORDER BY d.n_refused DESC, d.n DESC
LIMIT 200
