-- $1 dataset. Of the last 2,000 objects of all datasets that were finished within two hours.
SELECT o.recipe, count(*) AS n, max(o.imported_at) AS latest
FROM (SELECT f.object_id FROM penstock.finished f ORDER BY f.at DESC LIMIT 2000) f
JOIN penstock.object o ON o.id = f.object_id
JOIN penstock.head h ON h.id = o.head_id
WHERE h.dataset = $1 AND o.state = 'imported'
GROUP BY o.recipe
ORDER BY latest DESC
LIMIT 20
