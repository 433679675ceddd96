-- $1 only this kind, $2 only this dataset, $3 most groups. What is gathered in penstock.problem, by what is wrong: each group is found by a step in the index, and counted up to
-- 1,000 only.
WITH RECURSIVE step AS (
    (SELECT p.kind, p.dataset, p.reason, p.column_name FROM penstock.problem p
     WHERE p.kind >= coalesce($1, '')
     ORDER BY p.kind, p.dataset, p.reason, p.column_name LIMIT 1)
    UNION ALL
    SELECT n.kind, n.dataset, n.reason, n.column_name
    FROM step s
    CROSS JOIN LATERAL (
        SELECT p.kind, p.dataset, p.reason, p.column_name FROM penstock.problem p
        WHERE (p.kind, p.dataset, p.reason, p.column_name) > (s.kind, s.dataset, s.reason, s.column_name)
        ORDER BY p.kind, p.dataset, p.reason, p.column_name LIMIT 1
    ) n
)
SELECT s.kind,
       s.dataset,
       s.reason,
       s.column_name,
       counted.n_objects,
       counted.n,
       first.at AS since,
       latest.at AS latest,
       h.bucket,
       h.key,
       latest.object_id,
       CASE WHEN s.kind = 'failed' THEN o.error
            ELSE (SELECT r.message FROM penstock.reject r
                  WHERE r.object_id = latest.object_id AND r.class = s.reason AND r.resolved_at IS NULL
                    AND coalesce(r.column_name, '') = s.column_name
                  ORDER BY r.row_number LIMIT 1) END AS said
FROM (SELECT * FROM (SELECT * FROM step LIMIT 5000) s
      WHERE ($1::text IS NULL OR s.kind = $1) AND ($2::text IS NULL OR s.dataset = $2) LIMIT $3) s
CROSS JOIN LATERAL (
    SELECT count(*) AS n_objects, coalesce(sum(p.n), 0)::bigint AS n
    FROM (SELECT p.n FROM penstock.problem p
          WHERE (p.kind, p.dataset, p.reason, p.column_name) = (s.kind, s.dataset, s.reason, s.column_name)
          LIMIT 1001) p
) counted
CROSS JOIN LATERAL (
    SELECT p.at FROM penstock.problem p
    WHERE (p.kind, p.dataset, p.reason, p.column_name) = (s.kind, s.dataset, s.reason, s.column_name)
    ORDER BY p.at LIMIT 1
) first
CROSS JOIN LATERAL (
    SELECT p.at, p.object_id FROM penstock.problem p
    WHERE (p.kind, p.dataset, p.reason, p.column_name) = (s.kind, s.dataset, s.reason, s.column_name)
    ORDER BY p.at DESC LIMIT 1
) latest
LEFT JOIN penstock.object o ON o.id = latest.object_id
LEFT JOIN penstock.head h ON h.id = o.head_id
ORDER BY latest.at DESC
