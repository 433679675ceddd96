-- $1 object. What is to be sent because of it, to the steps after it.
SELECT i.target, i.at, i.attempts, i.error
FROM penstock.due_item i
WHERE i.kind = 'step' AND i.object_id = $1
ORDER BY i.at
LIMIT 20
