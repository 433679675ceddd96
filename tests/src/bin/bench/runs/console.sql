-- :n_objects entries of twenty datasets over ninety days: one in a hundred with ten rejects, one in a thousand failed; and
-- two pools with a decision for each hundred entries, three in four of them of the last thirty days.
SET session_replication_role = replica;

INSERT INTO penstock.head (id, dataset, bucket, key, object_id) OVERRIDING SYSTEM VALUE
SELECT i, 'dataset_' || i % 20, 'landing', 'dataset_' || i % 20 || '/part-' || i % 97 || '/' || i || '.parquet', i
FROM generate_series(1, :n_objects) i;

INSERT INTO penstock.object (id, head_id, version_id, etag, size, state, reason, attempts, queue_url, rows_read,
    rows_written, rows_merged, rows_filtered, rows_rejected, bytes, event_time, sent_at, first_received_at, first_seen_at,
    started_at, imported_at, finished_at, duration_seconds, technique, error, recipe) OVERRIDING SYSTEM VALUE
SELECT i, i, 'v' || i, md5(i::text), 1000000, CASE WHEN i % 1000 = 1 THEN 'failed' ELSE 'imported' END,
       CASE WHEN i % 1000 = 1 THEN (ARRAY ['decode', 'limits', 'mapping'])[1 + i / 1000 % 3] END, 1, 'queue',
       CASE WHEN i % 1000 <> 1 THEN 1000 END, CASE WHEN i % 100 = 0 THEN 990 WHEN i % 1000 <> 1 THEN 1000 END,
       CASE WHEN i % 1000 <> 1 THEN 0 END, CASE WHEN i % 1000 <> 1 THEN 0 END,
       CASE WHEN i % 100 = 0 THEN 10 WHEN i % 1000 <> 1 THEN 0 END, 1000000, at - interval '9 s', at - interval '8 s',
       at - interval '3 s', at - interval '3 s', at - interval '2 s', CASE WHEN i % 1000 <> 1 THEN at END, at, 1.5, 'direct',
       CASE WHEN i % 1000 = 1 THEN 'what was the matter with ' || i END, '0123456789abcdef'
FROM generate_series(1, :n_objects) i
CROSS JOIN LATERAL (SELECT now() - interval '90 days' * (1 - i::float8 / :n_objects) AS at) t;

INSERT INTO penstock.finished (object_id, at)
SELECT id, finished_at FROM penstock.object WHERE finished_at > now() - interval '2 hours';

INSERT INTO penstock.reject (object_id, row_number, class, column_name, message, payload, payload_length, created_at)
SELECT o.id, n, 'type', (ARRAY ['amount', 'currency', 'paid_at'])[1 + o.id / 100 % 3],
       'invalid input syntax for type numeric', '{"amount":"1,5","currency":"EUR"}', 33, o.finished_at
FROM penstock.object o
CROSS JOIN generate_series(1, 10) n
WHERE o.rows_rejected > 0;

INSERT INTO penstock.problem (object_id, head_id, kind, dataset, reason, column_name, n, at)
SELECT o.id, h.id, 'failed', h.dataset, o.reason, '', 1, o.finished_at
FROM penstock.object o JOIN penstock.head h ON h.id = o.head_id WHERE o.state = 'failed'
UNION ALL
SELECT o.id, h.id, 'rejected', h.dataset, 'type', r.column_name, count(*), o.finished_at
FROM penstock.reject r JOIN penstock.object o ON o.id = r.object_id JOIN penstock.head h ON h.id = o.head_id
GROUP BY o.id, h.id, r.column_name;

INSERT INTO penstock.dataset_minute
SELECT 'dataset_' || d, at, 4, 0, 0, 0, 0, 4000, 10, 4000000, 8 + random(), 20 + random(), at
FROM generate_series(0, 19) d
CROSS JOIN generate_series(date_trunc('minute', now()) - interval '89 days', now(), interval '1 minute') at;
UPDATE penstock.rolled_up SET up_to = date_trunc('minute', now());

INSERT INTO penstock.pool_state
SELECT 'pool_' || p, '{}', 'host ' || p, now() FROM generate_series(1, 2) p;

INSERT INTO penstock.decisions (pool, at, desired, reason, explain, inputs, applied)
SELECT 'pool_' || i % 2 + 1, now() - interval '1 second' * (i - 1) * (3.8e6 / :n_objects * 100), (i / 40 % 8)::int, 'backlog',
       'The queue has ' || i % 500 || ' messages, which take 4 workers 90 s.',
       jsonb_build_object('queue', jsonb_build_object('visible', i % 500, 'in_flight', i % 7), 'arrivals_per_sec', 2.5,
           'age_secs', i % 900, 'promised_secs', 600, 'want', i / 40 % 8, 'job_secs', 1.5, 'start_up_secs', 40,
           'pool', jsonb_build_object('starting', 0, 'idle', 1, 'busy', i / 40 % 7, 'max', 8),
           'bounds', jsonb_build_array(jsonb_build_object('guard', 'max', 'at_most', 8, 'why', 'the pool has at most 8'))),
       true
FROM generate_series(1, :n_objects / 100) i;

INSERT INTO penstock.workers (id, host, pid, version, state, slots, in_flight, heartbeat_at, queue_url,
    visibility_timeout_secs, started_at, first_receive_at)
SELECT 'worker ' || i, 'host ' || i, i, '0.1.0', 'busy', 4, 2, now(), 'queue', 300, now() - interval '1 hour',
       now() - interval '59 minutes'
FROM generate_series(1, 8) i;

INSERT INTO penstock.notification (name, target, events)
VALUES ('ops', 'arn:aws:sns:eu-west-1:123456789012:imports', '{failed}');

INSERT INTO penstock.due_item (kind, target, body, created_at, at)
SELECT 'notify', 'ops', '{"penstock": 1}', now() - interval '1 hour', now()
FROM generate_series(1, 1000);

SELECT setval(pg_get_serial_sequence('penstock.head', 'id'), :n_objects),
       setval(pg_get_serial_sequence('penstock.object', 'id'), :n_objects);
