-- $1 head. Which version stands; all NULL when none does.
SELECT h.object_id, s.version_id, s.etag, s.size, s.sequencer, s.last_modified, coalesce(s.is_delete, false) AS is_delete
FROM penstock.head h
LEFT JOIN penstock.object s ON s.id = h.object_id
WHERE h.id = $1
