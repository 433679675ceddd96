-- When the message came that led to what became of a version: SQS's SentTimestamp and ApproximateFirstReceiveTimestamp.
-- Unknown for what came before, and of what came without a message. The previous release writes neither.

-- Whoever reads or writes the ledger waits behind this, so it does not wait long itself. Readers lock the view before
-- the table, and so does this: it sets nothing, but takes the view's lock.
SET LOCAL lock_timeout = '5s';
ALTER VIEW penstock.object_status RESET (security_barrier);

ALTER TABLE penstock.object ADD COLUMN sent_at timestamptz, ADD COLUMN first_received_at timestamptz;

CREATE OR REPLACE VIEW penstock.object_status AS
SELECT o.id,
       NULLIF(h.dataset, '') AS dataset,
       h.bucket,
       h.key,
       o.version_id,
       o.etag,
       o.size,
       o.sequencer,
       o.state,
       o.reason,
       o.attempts,
       o.worker,
       o.rows_read,
       o.rows_written,
       o.rows_merged,
       o.rows_filtered,
       o.rows_rejected,
       o.bytes,
       o.event_time,
       o.first_seen_at,
       o.started_at,
       o.imported_at,
       o.duration_seconds,
       o.error,
       o.rows_added,
       o.recipe,
       o.sent_at,
       o.first_received_at
FROM penstock.object o
JOIN penstock.head h ON h.id = o.head_id;
