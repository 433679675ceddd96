-- $1 name of a step, a dataset whose objects get a tag, or a notification. How many items were due to it; NULL when nothing of that name is known.
-- An import under way may make one more due after this: it goes when the name is forgotten again.
WITH step AS (
    DELETE FROM penstock.step WHERE dataset = $1 RETURNING 1
), notification AS (
    DELETE FROM penstock.notification WHERE name = $1 RETURNING 1
), tagging AS (
    DELETE FROM penstock.tagging WHERE dataset = $1 RETURNING 1
), awaited AS (
    DELETE FROM penstock.awaited WHERE dataset = $1 RETURNING id
), waits AS (
    DELETE FROM penstock.waiting_key WHERE awaited_id IN (SELECT id FROM awaited)
), waiting AS (
    DELETE FROM penstock.waiting_object w USING penstock.head h WHERE h.id = w.head_id AND h.dataset = $1
), due AS (
    DELETE FROM penstock.due_item WHERE target = $1 RETURNING 1
)
SELECT CASE WHEN EXISTS (SELECT FROM step) OR EXISTS (SELECT FROM notification) OR EXISTS (SELECT FROM tagging) OR EXISTS (SELECT FROM due)
            THEN (SELECT count(*) FROM due) END
