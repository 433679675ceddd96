-- The view penstock.object_status, before what is asked for is added: by its own columns the planner knows how many
-- entries a dataset has.
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
JOIN penstock.head h ON h.id = o.head_id
WHERE true
