-- A warehouse in the middle of an evening: three pools, of which one cannot keep up with a surge that began 75 minutes
-- ago; six datasets; files without a column, a damaged one, rows that break a constraint, and a topic that refuses.

-- Minutes of six hours: what comes, waits and works in each.
CREATE TEMP TABLE telemetry AS
SELECT m,
       (600 + 130 * sin((360 - m) / 38.0) + 70 * sin((360 - m) / 7.0)
           + CASE WHEN m BETWEEN 15 AND 75 THEN 1900 WHEN m < 15 THEN 500 ELSE 0 END)::numeric AS arriving,
       (CASE WHEN m > 75 THEN 90 + 45 * sin((360 - m) / 9.0) + 30 * sin((360 - m) / 3.7)
             WHEN m > 15 THEN 1060 + (75 - m) * 900 + 900 * sin(m / 4.0)
             ELSE 54060 - (15 - m) * 660 END)::numeric AS depth,
       (CASE WHEN m > 75 THEN 6 + round(1.4 * sin((360 - m) / 38.0)) WHEN m > 71 THEN 8 ELSE 16 END)::int AS desired,
       (CASE WHEN m > 75 THEN 6 + round(1.4 * sin((358 - m) / 38.0)) WHEN m > 73 THEN 7 WHEN m > 69 THEN 8 ELSE 16 END)::int AS running
FROM generate_series(0, 360) m;

INSERT INTO penstock.pool_state (pool, state, leader, updated_at)
SELECT pool, '{}', 'ip-10-0-1-20', now() - interval '3 s' FROM unnest(ARRAY['orders', 'telemetry', 'thumbnails']) pool;

INSERT INTO penstock.decisions (pool, at, desired, reason, explain, inputs, applied)
SELECT 'telemetry', now() - m * interval '1 min' - interval '4 s', desired,
       CASE WHEN m > 75 THEN 'deadline' WHEN m > 71 THEN 'growth_gate' ELSE 'max' END,
       CASE WHEN m > 75 THEN
                format('%s visible and 12 in flight at 2.1s each with %s arriving a second need %s workers to be done within 14m, so the pool stays at %s.',
                       round(depth), round(arriving / 60, 1), desired, desired)
            WHEN m > 71 THEN
                format('%s visible and 28 in flight at 2.1s each with %s arriving a second need 27 workers to be done within 12m, but 8 have to prove themselves first, so the pool grows from 7 to 8.',
                       round(depth), round(arriving / 60, 1))
            ELSE
                format('%s visible and 64 in flight at 2.1s each with %s arriving a second, the oldest %sm old, need 31 workers to be done within 15m, but max is 16, so the pool %s.',
                       round(depth), round(arriving / 60, 1), round(depth / 1760), CASE WHEN m = 71 THEN 'grows from 8 to 16' ELSE 'stays at 16' END)
       END,
       jsonb_build_object('pool', jsonb_build_object('starting', greatest(desired - running, 0), 'idle', 0, 'busy', running, 'draining', 0),
                          'queue', jsonb_build_object('visible', round(depth), 'in_flight', least(round(depth), running * 4), 'delayed', 0),
                          'age_secs', round(depth / 1760 * 60 + 2), 'promised_secs', 900, 'arrivals_per_sec', arriving / 60,
                          'want', CASE WHEN m > 75 THEN desired ELSE 31 END, 'job_secs', 2.1, 'start_up_secs', 48,
                          'sink', '{"healthy": true, "commit_secs": 0.006}'::jsonb,
                          'bounds', '[{"guard": "max", "at_most": 16, "why": "max is 16"}, {"guard": "min", "at_least": 2, "why": "min is 2"},
                                      {"guard": "shrink_window", "at_least": 16, "why": "16 were wanted within the last 2m"}]'::jsonb),
       true
FROM telemetry ORDER BY m DESC;

INSERT INTO penstock.decisions (pool, at, desired, reason, explain, inputs, applied)
SELECT 'orders', now() - m * interval '1 min' - interval '3 s', n, 'deadline',
       format('9 visible and 7 in flight at 0.4s each with 5.1 arriving a second need %s workers to be done within 4m50s, so the pool %s.',
              n, CASE WHEN n > lead(n) OVER w THEN format('grows from %s to %s', lead(n) OVER w, n)
                      WHEN n < lead(n) OVER w THEN format('shrinks from %s to %s', lead(n) OVER w, n) ELSE format('stays at %s', n) END),
       jsonb_build_object('pool', jsonb_build_object('starting', 0, 'idle', 1, 'busy', n - 1, 'draining', 0),
                          'queue', '{"visible": 9, "in_flight": 7, "delayed": 0}'::jsonb, 'age_secs', 4, 'promised_secs', 300,
                          'arrivals_per_sec', 5.1, 'want', n, 'job_secs', 0.4, 'start_up_secs', 51,
                          'sink', '{"healthy": true, "commit_secs": 0.006}'::jsonb,
                          'bounds', '[{"guard": "max", "at_most": 12, "why": "max is 12"}, {"guard": "min", "at_least": 1, "why": "min is 1"}]'::jsonb),
       true
FROM (SELECT m, CASE WHEN m BETWEEN 22 AND 118 OR m > 290 THEN 4 ELSE 3 END AS n FROM generate_series(0, 360) m) d
WINDOW w AS (ORDER BY m);

INSERT INTO penstock.decisions (pool, at, desired, reason, explain, inputs, applied)
SELECT 'thumbnails', now() - m * interval '1 min' - interval '5 s', n, CASE WHEN n = 0 THEN 'steady' ELSE 'wake' END,
       CASE WHEN n = 0 THEN '0 visible and 0 in flight need no worker and 4 long polls came back empty, so the pool stays at 0.'
            ELSE '310 visible and 0 in flight at 1.2s each need 2 workers to be done within 30m, so the pool grows from 0 to 2.' END,
       jsonb_build_object('pool', jsonb_build_object('starting', 0, 'idle', 0, 'busy', n, 'draining', 0),
                          'queue', jsonb_build_object('visible', n * 155, 'in_flight', 0, 'delayed', 0), 'promised_secs', 1800,
                          'arrivals_per_sec', 0, 'want', n, 'job_secs', 1.2,
                          'bounds', '[{"guard": "max", "at_most": 4}, {"guard": "min", "at_least": 0}]'::jsonb),
       true
FROM (SELECT m, CASE WHEN m BETWEEN 185 AND 214 THEN 2 ELSE 0 END AS n FROM generate_series(0, 360) m) d ORDER BY m DESC;

INSERT INTO penstock.workers (id, host, pid, version, state, slots, in_flight, heartbeat_at, visibility_timeout_secs, started_at, first_receive_at)
SELECT format('ip-10-0-%s-%s-%s', 2 + n % 3, 20 + n * 11, 2000 + n * 7), format('ip-10-0-%s-%s', 2 + n % 3, 20 + n * 11), 2000 + n * 7, '0.1.0',
       'busy', 4, 4 - n % 2, now() - n * interval '0.4 s', 120, now() - interval '70 min' + n * interval '3 s',
       now() - interval '69 min' + n * interval '2 s'
FROM generate_series(1, 10) n;

INSERT INTO penstock.dataset_minute
SELECT 'telemetry', date_trunc('minute', now()) - m * interval '1 min', least(arriving, running * 110), 0, m % 4, 0, 0,
       least(arriving, running * 110) * 2150, CASE WHEN m % 23 = 5 THEN 9 + m % 7 ELSE 0 END, least(arriving, running * 110) * 310000,
       5 + depth / 1760 * 60, 9 + depth / 1760 * 66, date_trunc('minute', now()) - m * interval '1 min' - depth / 1760 * interval '1 min'
FROM telemetry WHERE m > 0;
INSERT INTO penstock.dataset_minute
SELECT d.name, date_trunc('minute', now()) - m * interval '1 min', d.n + round(d.n * 0.4 * sin(m / 21.0)), 0, 0, 0, 0,
       (d.n + round(d.n * 0.4 * sin(m / 21.0))) * 410, 0, d.n * 52000, d.lag + sin(m / 9.0) / 2, d.lag * 2.6,
       date_trunc('minute', now()) - m * interval '1 min' - interval '4 s'
FROM (VALUES ('orders', 84, 3.2, 1, 360), ('order_lines', 80, 4.1, 1, 360), ('accounts', 2, 7.4, 12, 360), ('image_tags', 11, 14.0, 186, 214),
             ('exchange_rates', 1, 2.3, 344, 344)) d (name, n, lag, since, until),
     generate_series(d.since, d.until) m;

-- The newest version of a key, of which the table took all rows but twelve, and the one before it.
INSERT INTO penstock.head (dataset, bucket, key)
VALUES ('telemetry', 'acme-landing', format('telemetry/dt=%s/site=0417/part-0031.parquet', current_date));
INSERT INTO penstock.object (head_id, version_id, etag, size, sequencer, state, attempts, worker, queue_url, rows_read, rows_written, rows_merged,
    rows_filtered, rows_rejected, bytes, event_time, sent_at, first_received_at, first_seen_at, started_at, imported_at, finished_at,
    duration_seconds, technique, recipe)
SELECT h.id, v.version_id, v.etag, v.size, v.sequencer, 'imported', 1, 'ip-10-0-4-42-2014',
       'https://sqs.eu-west-1.amazonaws.com/123456789012/telemetry', v.n, v.n - v.rejected, 0, 0, v.rejected, v.size,
       v.at, v.at + interval '0.4 s', v.at + v.waited, v.at + v.waited + interval '0.1 s', v.at + v.waited + interval '0.1 s',
       v.at + v.waited + interval '2.3 s', v.at + v.waited + interval '2.3 s', 2.2, 'staged', '6f0c91be'
FROM penstock.head h,
     (VALUES (1, 'mXk2v9TqRz.8bWc4YhLJ0pQfE7sNdAoU', '9b2cf535f27731c974343645a3985328', 7340032, '0065A1C8F03B77D21A', 50000, 12,
              now() - interval '25 min 40 s', interval '24 min 51 s'),
             (0, 'c3Vd1LrG7yTn_5KwPzHf9uBmXa2QeJ6s', 'c157a79031e1c40f85931829bc5fc552', 7116288, '0065A1B2905C40AA3E', 48210, 0,
              now() - interval '3 h 12 min', interval '6 s')) v (place, version_id, etag, size, sequencer, n, rejected, at, waited)
ORDER BY v.place;
UPDATE penstock.head SET object_id = 2;
INSERT INTO penstock.reject (object_id, row_number, class, column_name, message, created_at)
SELECT 2, 1200 + n * 3517, 'constraint', 'humidity',
       'new row for relation "telemetry" violates check constraint "humidity_is_percent"', now() - interval '47 s'
FROM generate_series(1, 12) n;

-- What else came lately.
INSERT INTO penstock.head (dataset, bucket, key)
SELECT CASE n % 3 WHEN 0 THEN 'accounts' WHEN 1 THEN 'orders' ELSE 'order_lines' END, 'acme-landing',
       format('%s/dt=%s/%s.ndjson.gz', CASE n % 3 WHEN 0 THEN 'accounts' WHEN 1 THEN 'orders' ELSE 'order_lines' END, current_date, 48200 + n)
FROM generate_series(1, 18) n;
INSERT INTO penstock.object (head_id, etag, size, state, attempts, rows_read, rows_written, rows_merged, rows_filtered, rows_rejected,
    event_time, sent_at, first_received_at, first_seen_at, started_at, imported_at, finished_at, recipe)
SELECT h.id, md5(h.key), 52000 + h.id, 'imported', 1, 400 + h.id % 37, 400 + h.id % 37, 0, 0, 0, t.at, t.at + interval '0.3 s',
       t.at + interval '2 s', t.at + interval '2 s', t.at + interval '2.1 s', t.at + interval '3.4 s', t.at + interval '3.4 s', '1d77aa03'
FROM penstock.head h, LATERAL (SELECT now() - h.id * interval '11 s' AS at) t
WHERE h.key LIKE '%.ndjson.gz';
UPDATE penstock.head h SET object_id = o.id FROM penstock.object o WHERE o.head_id = h.id AND h.object_id IS NULL;

-- What is broken.
INSERT INTO penstock.head (dataset, bucket, key)
SELECT 'invoices', 'acme-landing', format('invoices/%s/INV-%s.csv', to_char(now(), 'YYYY-MM'), 20417 + n) FROM generate_series(1, 3) n;
INSERT INTO penstock.object (head_id, etag, size, state, reason, error, attempts, queue_url, event_time, sent_at, first_received_at,
    first_seen_at, started_at, finished_at, forwarded_message_id)
SELECT h.id, md5(h.key), 18400, 'failed', 'schema', 'no column vat_rate', 1, 'https://sqs.eu-west-1.amazonaws.com/123456789012/orders',
       t.at, t.at + interval '0.3 s', t.at + interval '1 s', t.at + interval '1 s', t.at + interval '1.1 s', t.at + interval '1.6 s',
       'b6f0c3f4-0d7e-4ac1-9a5f-5f2f1f7f6f10'
FROM penstock.head h, LATERAL (SELECT now() - interval '38 min' + h.id * interval '41 s' AS at) t
WHERE h.dataset = 'invoices';
INSERT INTO penstock.head (dataset, bucket, key) VALUES ('accounts', 'acme-landing', format('accounts/dt=%s/crm-export.csv.gz', current_date));
INSERT INTO penstock.object (head_id, etag, size, state, reason, error, attempts, queue_url, event_time, sent_at, first_received_at,
    first_seen_at, started_at, finished_at)
SELECT h.id, md5(h.key), 907211, 'failed', 'corrupt', 'decode: corrupt: the gzip stream ends early', 3, 'q', t.at, t.at, t.at, t.at, t.at, t.at
FROM penstock.head h, LATERAL (SELECT now() - interval '49 min' AS at) t
WHERE h.key LIKE '%crm-export%';
INSERT INTO penstock.notification (name, target, events) VALUES ('on_call', 'arn:aws:sns:eu-west-1:123456789012:on-call', '{failed}');
INSERT INTO penstock.due_item (at, kind, target, event, object_id, body, attempts, error, created_at)
SELECT now() + interval '3 min', 'notify', 'on_call', 'failed', o.id, '{}', 5,
       'AuthorizationError: not authorized to perform SNS:Publish on this topic', now() - interval '36 min'
FROM penstock.object o WHERE o.state = 'failed' AND o.reason = 'schema';
