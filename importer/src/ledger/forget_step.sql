-- $1 name of a step or a notification. How many items were due to it; NULL when it is not registered.
WITH step AS (
    DELETE FROM penstock.step WHERE dataset = $1 RETURNING 'step' AS kind
), notification AS (
    DELETE FROM penstock.notification WHERE name = $1 RETURNING 'notify' AS kind
), known AS (
    SELECT kind FROM step UNION ALL SELECT kind FROM notification
), due AS (
    DELETE FROM penstock.due_item i USING known WHERE i.kind = known.kind AND i.target = $1 RETURNING i.id
)
SELECT CASE WHEN EXISTS (SELECT FROM known) THEN (SELECT count(*) FROM due) END
