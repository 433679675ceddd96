-- How many objects of each dataset are in which state, and why.
SELECT dataset,
       state,
       reason,
       count(*) AS n_objects,
       coalesce(sum(rows_written) FILTER (WHERE state = 'imported'), 0)::bigint AS n_rows,
       to_json(max(coalesce(imported_at, started_at, first_seen_at))) #>> '{}' AS last_seen
FROM penstock.object_status
GROUP BY dataset, state, reason
ORDER BY dataset NULLS LAST, state, reason
