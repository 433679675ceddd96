-- A row of an archive has its member's name as a field, which its payload has not: a reject keeps it for its second chance.
-- The view says it after what it said before.
SET LOCAL lock_timeout = '5s';
ALTER TABLE penstock.reject ADD COLUMN archive_member text;

CREATE OR REPLACE VIEW penstock.rejects AS
SELECT NULLIF(h.dataset, '') AS dataset,
       h.bucket,
       h.key,
       o.version_id,
       r.row_number,
       r.class,
       r.column_name,
       r.message,
       r.payload,
       r.payload_length,
       r.created_at,
       r.resolved_at,
       r.archive_member
FROM penstock.reject r
JOIN penstock.object o ON o.id = r.object_id
JOIN penstock.head h ON h.id = o.head_id;
