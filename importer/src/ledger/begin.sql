-- $1 head, $2 is a delete event, $3 version id, $4 etag, $5 size, $6 sequencer, $7 last modified,
-- $8 worker, $9 queue, $10 event time, $11 and $12 when the message was sent and first received.
-- The version's row is found as in look_up.sql, else made. A settled row keeps what it says until another outcome
-- is known: this attempt may be that of a worker that stood still while another settled the message, and then end
-- without a word.
-- What is recorded here is for people to see, so its commit does not wait for the disk: whatever is committed later
-- takes it along, and a crash before that only forgets an attempt.
WITH relaxed AS (
    SELECT set_config('synchronous_commit', 'off', true)
),
known AS (
    SELECT o.id
    FROM penstock.object o
    WHERE o.head_id = $1
      AND o.is_delete = $2
      AND CASE WHEN o.version_id IS NOT NULL AND $3::text IS NOT NULL THEN o.version_id = $3
               ELSE o.etag IS NOT DISTINCT FROM $4 AND o.size IS NOT DISTINCT FROM $5::bigint
                   -- What was held before the store had said which version there is: this attempt knows.
                   OR (o.etag IS NULL OR o.size IS NULL) AND coalesce(o.etag = $4, $4 IS NOT NULL)
                       AND coalesce(o.size = $5::bigint, $5::bigint IS NOT NULL) AND NOT o.is_delete
                       AND o.version_id IS NULL AND o.imported_at IS NULL AND o.state IN ('importing', 'retrying') END
    ORDER BY o.version_id IS NOT DISTINCT FROM $3::text DESC, o.etag IS NOT DISTINCT FROM $4 DESC,
             o.size IS NOT DISTINCT FROM $5::bigint DESC, o.id DESC
    LIMIT 1
),
-- Seen before: one more attempt. What the row says is asked of the row being updated, which another transaction
-- may just have settled, and not of the snapshot.
updated AS (
    UPDATE penstock.object o
    SET attempts = o.attempts + 1,
        state = CASE WHEN o.state = 'retrying' THEN 'importing' ELSE o.state END,
        reason = CASE WHEN o.state NOT IN ('importing', 'retrying') THEN o.reason END,
        error = CASE WHEN o.state NOT IN ('importing', 'retrying') THEN o.error END,
        version_id = CASE WHEN o.etag IS NULL OR o.size IS NULL THEN coalesce(o.version_id, $3) ELSE o.version_id END,
        etag = coalesce(o.etag, $4),
        size = coalesce(o.size, $5::bigint),
        worker = $8,
        queue_url = coalesce($9, o.queue_url),
        -- Of what is done, those of the message that did it stay.
        sent_at = CASE WHEN o.imported_at IS NULL AND NOT (o.is_delete AND o.state = 'gone') THEN $11 ELSE o.sent_at END,
        first_received_at = CASE WHEN o.imported_at IS NULL AND NOT (o.is_delete AND o.state = 'gone') THEN $12
                                 ELSE o.first_received_at END,
        started_at = clock_timestamp()
    FROM known
    WHERE o.id = known.id
    RETURNING o.id, o.imported_at IS NOT NULL AS ever_imported
),
-- Never seen: two workers may try at once, the second updates.
inserted AS (
    INSERT INTO penstock.object AS o
        (head_id, is_delete, version_id, etag, size, sequencer, last_modified, state, attempts,
         worker, queue_url, event_time, started_at, sent_at, first_received_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, 'importing', 1, $8, $9, $10, clock_timestamp(), $11, $12
    WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT (head_id, coalesce(version_id, ''), coalesce(etag, ''), coalesce(size, -1), is_delete)
    DO UPDATE SET attempts = o.attempts + 1, worker = $8, started_at = clock_timestamp()
    RETURNING o.id, o.imported_at IS NOT NULL AS ever_imported
)
SELECT $1::bigint AS head_id, id AS object_id, ever_imported FROM updated, relaxed
UNION ALL
SELECT $1::bigint, id, ever_imported FROM inserted, relaxed
