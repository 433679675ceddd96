-- $1 dataset, $2 bucket, $3 key, $4 version id, $5 etag, $6 size, $7 is a delete event.
-- What stands for the key, and this version's own row: found by version id when both have one, else by ETag and size.
SELECT h.id AS head_id,
       h.object_id,
       s.version_id,
       s.etag,
       s.size,
       s.sequencer,
       s.last_modified,
       s.recipe,
       s.is_delete,
       own.id AS own_id,
       own.imported_at IS NOT NULL AS own_ever_imported,
       own.forwarded_message_id AS own_forwarded_message_id
FROM penstock.head h
LEFT JOIN penstock.object s ON s.id = h.object_id
LEFT JOIN LATERAL (
    SELECT o.id, o.imported_at, o.forwarded_message_id
    FROM penstock.object o
    WHERE o.head_id = h.id
      AND o.is_delete = $7
      AND CASE WHEN o.version_id IS NOT NULL AND $4::text IS NOT NULL THEN o.version_id = $4
               ELSE o.etag IS NOT DISTINCT FROM $5 AND o.size IS NOT DISTINCT FROM $6::bigint END
    ORDER BY o.version_id IS NOT DISTINCT FROM $4::text DESC, o.etag IS NOT DISTINCT FROM $5 DESC, o.id DESC
    LIMIT 1
) own ON true
WHERE h.dataset = $1 AND h.bucket = $2 AND h.key = $3
