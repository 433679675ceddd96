-- Per object: $1 head; $2 version id, $3 etag, $4 size of the version that asks.
-- standing.sql for many heads; their locks are held. OFFSET 0 as in ensure_heads.sql.
SELECT h.id AS head_id,
       h.object_id,
       s.version_id,
       s.etag,
       s.size,
       s.sequencer,
       s.last_modified,
       s.recipe,
       false AS waits,
       coalesce(s.is_delete, false) AS is_delete,
       EXISTS (
           SELECT
           FROM penstock.object o
           WHERE o.head_id = h.id
             AND NOT o.is_delete
             AND o.imported_at IS NOT NULL
             AND CASE WHEN o.version_id IS NOT NULL AND asks.version_id IS NOT NULL THEN o.version_id = asks.version_id
                      ELSE o.etag IS NOT DISTINCT FROM asks.etag AND o.size IS NOT DISTINCT FROM asks.size END
       ) AS ever_imported
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS asks (head_id, version_id, etag, size)
CROSS JOIN LATERAL (SELECT h.id, h.object_id FROM penstock.head h WHERE h.id = asks.head_id OFFSET 0) h
LEFT JOIN LATERAL (SELECT s.* FROM penstock.object s WHERE s.id = h.object_id OFFSET 0) s ON true
