-- $1 dataset, $2 seconds back, $3 seconds of an interval.
SELECT to_timestamp(floor(extract(epoch FROM m.at)::float8 / $3) * $3) AS at,
       sum(m.n_imported)::bigint AS n_imported,
       sum(m.n_skipped)::bigint AS n_skipped,
       sum(m.n_superseded)::bigint AS n_superseded,
       sum(m.n_gone)::bigint AS n_gone,
       sum(m.n_failed)::bigint AS n_failed,
       sum(m.rows_written)::bigint AS rows_written,
       sum(m.rows_rejected)::bigint AS rows_rejected,
       sum(m.bytes)::bigint AS bytes,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY m.lag_p50) AS lag_p50,
       max(m.lag_p95) AS lag_p95
FROM penstock.dataset_minute m
WHERE m.dataset = $1 AND m.at > now() - make_interval(secs => $2)
GROUP BY 1
ORDER BY 1
