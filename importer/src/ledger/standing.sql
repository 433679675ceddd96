-- $1 head; $2 version id, $3 etag, $4 size of the version that asks.
-- Which version stands; all NULL when none does. Whether the version that asks was ever imported: its rows may
-- have been recorded under another sighting, so it is looked for by identity as in look_up.sql.
SELECT h.object_id,
       s.version_id,
       s.etag,
       s.size,
       s.sequencer,
       s.last_modified,
       s.recipe,
       coalesce(s.is_delete, false) AS is_delete,
       EXISTS (
           SELECT
           FROM penstock.object o
           WHERE o.head_id = h.id
             AND NOT o.is_delete
             AND o.imported_at IS NOT NULL
             AND CASE WHEN o.version_id IS NOT NULL AND $2::text IS NOT NULL THEN o.version_id = $2
                      ELSE o.etag IS NOT DISTINCT FROM $3::text AND o.size IS NOT DISTINCT FROM $4::bigint END
       ) AS ever_imported
FROM penstock.head h
LEFT JOIN penstock.object s ON s.id = h.object_id
WHERE h.id = $1
