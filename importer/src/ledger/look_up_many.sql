-- $1 dataset; per object: $2 bucket, $3 key, $4 version id, $5 etag, $6 size.
-- look_up.sql for many objects at once; objects whose key was never seen bring no row. OFFSET 0 as in ensure_heads.sql.
SELECT sought.place,
       h.id AS head_id,
       h.object_id,
       s.version_id,
       s.etag,
       s.size,
       s.sequencer,
       s.last_modified,
       s.recipe,
       false AS waits,
       s.is_delete,
       own.id AS own_id,
       own.imported_at IS NOT NULL AS own_ever_imported,
       own.forwarded_message_id AS own_forwarded_message_id
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
    WITH ORDINALITY AS sought (bucket, key, version_id, etag, size, place)
CROSS JOIN LATERAL (
    SELECT h.id, h.object_id
    FROM penstock.head h
    WHERE h.dataset = $1 AND h.bucket = sought.bucket AND h.key = sought.key
    OFFSET 0
) h
LEFT JOIN LATERAL (SELECT s.* FROM penstock.object s WHERE s.id = h.object_id OFFSET 0) s ON true
LEFT JOIN LATERAL (
    SELECT o.id, o.imported_at, o.forwarded_message_id
    FROM penstock.object o
    WHERE o.head_id = h.id
      AND NOT o.is_delete
      AND CASE WHEN o.version_id IS NOT NULL AND sought.version_id IS NOT NULL THEN o.version_id = sought.version_id
               ELSE o.etag IS NOT DISTINCT FROM sought.etag AND o.size IS NOT DISTINCT FROM sought.size END
    ORDER BY o.version_id IS NOT DISTINCT FROM sought.version_id DESC, o.etag IS NOT DISTINCT FROM sought.etag DESC, o.id DESC
    LIMIT 1
) own ON true
