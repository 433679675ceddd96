-- $1 bucket; in step: $2 dataset, $3 key, $4 etag, $5 size, $6 last modified of objects in the bucket.
-- Places (from 1) of the objects the ledger accounts for: the version has an outcome. One that was imported and
-- does not stand is accounted for unless the bucket has it from a later time than the version that stands:
-- then it was put back, and that event never arrived.
SELECT listed.place
FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[]) WITH ORDINALITY
     listed (dataset, key, etag, size, last_modified, place)
JOIN penstock.head h ON h.dataset = listed.dataset AND h.bucket = $1 AND h.key = listed.key
LEFT JOIN penstock.object standing ON standing.id = h.object_id
WHERE EXISTS (
    SELECT
    FROM penstock.object o
    WHERE o.head_id = h.id
      AND NOT o.is_delete
      AND o.etag = listed.etag
      AND o.size IS NOT DISTINCT FROM listed.size
      AND o.state NOT IN ('importing', 'retrying', 'gone')
      AND (o.id = h.object_id
           OR o.state NOT IN ('imported', 'superseded')
           OR coalesce(listed.last_modified <= standing.last_modified, true)))
