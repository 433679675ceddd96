-- By which recipes the last 2,000 objects of a quarter of an hour were made, of datasets with more than one.
SELECT r.dataset, r.recipe, r.n, r.since
FROM (
    SELECT h.dataset,
           o.recipe,
           count(*) AS n,
           min(o.imported_at) AS since,
           count(*) OVER (PARTITION BY h.dataset) AS n_recipes
    FROM (SELECT f.object_id FROM penstock.finished f
          WHERE f.at > clock_timestamp() - interval '15 minutes' ORDER BY f.at DESC LIMIT 2000) f
    JOIN penstock.object o ON o.id = f.object_id
    JOIN penstock.head h ON h.id = o.head_id
    WHERE o.recipe IS NOT NULL AND o.state = 'imported'
    GROUP BY h.dataset, o.recipe
) r
WHERE r.n_recipes > 1
ORDER BY r.dataset, r.since DESC
LIMIT 20
