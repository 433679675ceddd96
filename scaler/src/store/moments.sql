-- $1 pool, $2 after, $3 limit: what floods are learnt from, oldest first; an unread queue would look like one that is empty.
SELECT
    at,
    CASE WHEN inputs ->> 'queue_error' IS NULL
        THEN (inputs -> 'queue' ->> 'visible')::float8 + (inputs -> 'queue' ->> 'in_flight')::float8 END AS backlog,
    (inputs ->> 'completed')::float8 AS done,
    coalesce((inputs ->> 'completed_secs')::float8, 0)
        * coalesce((inputs ->> 'job_secs')::float8 / nullif((inputs ->> 'recorded_job_secs')::float8, 0), 1) AS done_secs,
    (inputs ->> 'age_secs')::float8 AS age_secs,
    (inputs ->> 'job_secs')::float8 AS job_secs,
    (inputs ->> 'start_up_secs')::float8 AS start_up_secs
FROM penstock.decisions
WHERE pool = $1 AND at > $2 AND inputs ?& ARRAY['job_secs', 'start_up_secs']
ORDER BY at
LIMIT $3
