-- $1 dataset, $2 its recipe. Of its objects that stand by another: how many may be made anew, how many could not be, and
-- ten of these.
WITH outdated AS NOT MATERIALIZED (
    SELECT o.id, 's3://' || h.bucket || '/' || h.key AS address, o.reason, coalesce(o.tried_recipe = $2, false) AS is_tried
    FROM penstock.head h
    JOIN penstock.object o ON o.id = h.object_id
    WHERE h.dataset = $1 AND h.bucket <> 'file' AND o.state = 'imported' AND o.recipe IS DISTINCT FROM $2
)
SELECT count(*) FILTER (WHERE NOT is_tried) AS n_outdated,
       count(*) FILTER (WHERE is_tried) AS n_left,
       ARRAY(SELECT address || ': ' || coalesce(reason, 'unknown') FROM outdated WHERE is_tried ORDER BY id LIMIT 10) AS left
FROM outdated
