-- The versions that stand in the datasets $2, which dataset $1 follows, in the order they were first seen. $3 bucket,
-- $4 prefix, $5 first seen since, $6 before; NULL: any.
-- Of one that several hold, `after` is the one that the dataset's own import of the object followed; else the first.
SELECT *
FROM (
    SELECT DISTINCT ON (h.bucket, h.key, o.version_id, o.etag, o.size)
           $1 AS dataset, h.bucket, h.key, o.version_id, o.etag, o.size, o.sequencer,
           coalesce(o.event_time, o.first_seen_at) AS at, f.dataset AS after, o.id
    FROM unnest($2::text[]) WITH ORDINALITY AS f (dataset, place)
    JOIN penstock.head h ON h.dataset = f.dataset
    JOIN penstock.object o ON o.id = h.object_id AND o.state = 'imported' AND NOT o.is_delete
    LEFT JOIN penstock.head own_head ON (own_head.dataset, own_head.bucket, own_head.key) = ($1, h.bucket, h.key)
    LEFT JOIN penstock.object own ON own.id = own_head.object_id
    WHERE h.bucket <> 'file'
      AND ($3::text IS NULL OR h.bucket = $3)
      AND ($4::text IS NULL OR starts_with(h.key, $4))
      AND ($5::timestamptz IS NULL OR o.first_seen_at >= $5)
      AND ($6::timestamptz IS NULL OR o.first_seen_at < $6)
    ORDER BY h.bucket, h.key, o.version_id, o.etag, o.size, f.dataset = own.after DESC NULLS LAST, f.place
) AS held
ORDER BY at, id
