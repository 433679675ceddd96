-- Versions that the ledger knows, in the order they were first seen. $1 dataset, $2 state, $3 bucket, $4 prefix, $5 first
-- seen since, $6 before; NULL: any. $7 a dataset and $8 one that it follows, for each of these in the configuration's order.
-- $9 a recipe: only what stands, and by another one; `is_tried`: it could not be made anew by this one.
-- `after`: the dataset that the version's import followed; where that is not known, the first that holds the object.
SELECT NULLIF(h.dataset, '') AS dataset, h.bucket, h.key, o.version_id, o.etag, o.size, o.sequencer,
       coalesce(o.event_time, o.first_seen_at) AS at, followed.dataset AS after,
       coalesce(o.tried_recipe = $9, false) AS is_tried, o.reason
FROM penstock.object o
JOIN penstock.head h ON h.id = o.head_id
LEFT JOIN LATERAL (
    SELECT f.followed AS dataset
    FROM unnest($7::text[], $8::text[]) WITH ORDINALITY AS f (dataset, followed, place)
    LEFT JOIN penstock.head other ON (other.dataset, other.bucket, other.key) = (f.followed, h.bucket, h.key)
    LEFT JOIN penstock.object held ON held.id = other.object_id AND held.state = 'imported' AND NOT held.is_delete
    WHERE f.dataset = h.dataset
    ORDER BY f.followed = o.after DESC NULLS LAST, held.id IS NULL, f.place
    LIMIT 1
) AS followed ON true
WHERE h.bucket <> 'file' AND NOT o.is_delete
  AND ($1::text IS NULL OR h.dataset = $1)
  AND ($2::text IS NULL OR o.state = $2)
  AND ($3::text IS NULL OR h.bucket = $3)
  AND ($4::text IS NULL OR starts_with(h.key, $4))
  AND ($5::timestamptz IS NULL OR o.first_seen_at >= $5)
  AND ($6::timestamptz IS NULL OR o.first_seen_at < $6)
  AND ($9::text IS NULL OR h.object_id = o.id AND o.recipe IS DISTINCT FROM $9)
ORDER BY at, o.id
