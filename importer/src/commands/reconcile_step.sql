-- $1 bucket, $2 prefix, $3 a step, $4 the datasets it follows.
-- The objects that stand in those, and whether the ledger has an outcome of that version for the step.
SELECT h.dataset, h.key, o.version_id, o.etag, o.size, o.sequencer,
       EXISTS (
           SELECT
           FROM penstock.head s
           JOIN penstock.object own ON own.head_id = s.id
           WHERE s.dataset = $3 AND s.bucket = h.bucket AND s.key = h.key
             AND NOT own.is_delete
             AND own.etag IS NOT DISTINCT FROM o.etag
             AND own.size IS NOT DISTINCT FROM o.size
             AND own.state NOT IN ('importing', 'retrying', 'gone')) AS is_known
FROM penstock.head h
JOIN penstock.object o ON o.id = h.object_id
WHERE h.dataset = ANY ($4) AND h.bucket = $1 AND starts_with(h.key, $2)
  AND o.state = 'imported' AND NOT o.is_delete
ORDER BY h.key
