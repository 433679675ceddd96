-- $1 dataset; per object: $2 bucket, $3 key, $4 version id, $5 etag, $6 size, $7 sequencer, $8 last modified,
-- $9 event time, $12 and $13 when the message was sent and first received; $10 worker, $11 queue. Every key once.
-- begin.sql for many objects of which no version stands and none was seen before; what another worker
-- recorded meanwhile comes back with more than one attempt.
-- The commit does not wait for the disk, as in begin.sql. OFFSET 0 as in ensure_heads.sql.
INSERT INTO penstock.object AS o
    (head_id, is_delete, version_id, etag, size, sequencer, last_modified, state, attempts,
     worker, queue_url, event_time, started_at, sent_at, first_received_at)
SELECT h.id, false, sought.version_id, sought.etag, sought.size, sought.sequencer, sought.last_modified,
       'importing', 1, $10, $11, sought.event_time, clock_timestamp(),
       sought.sent_at, sought.first_received_at
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::timestamptz[],
            $9::timestamptz[], $12::timestamptz[], $13::timestamptz[])
    AS sought (bucket, key, version_id, etag, size, sequencer, last_modified, event_time, sent_at, first_received_at)
CROSS JOIN LATERAL (
    SELECT h.id FROM penstock.head h WHERE h.dataset = $1 AND h.bucket = sought.bucket AND h.key = sought.key OFFSET 0
) h
CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) relaxed
ORDER BY h.id
ON CONFLICT (head_id, coalesce(version_id, ''), coalesce(etag, ''), coalesce(size, -1), is_delete)
DO UPDATE SET attempts = o.attempts + 1, worker = $10, started_at = clock_timestamp()
RETURNING o.id AS object_id, o.head_id, o.attempts, o.imported_at IS NOT NULL AS ever_imported,
          (SELECT h.bucket FROM penstock.head h WHERE h.id = o.head_id) AS bucket,
          (SELECT h.key FROM penstock.head h WHERE h.id = o.head_id) AS key
