-- $1 object, $2 state, $3 reason, $4 error, $5 forwarded message, $6 seconds,
-- $7 the recipe that it was to be made anew by.
-- A version that is gone from the store while its rows stand says so.
-- A version whose rows were once committed stays `imported`, with the reason of its latest sighting;
-- a failure shows unless its rows stand in the table. A tombstone that stands keeps what it says.
-- That it is tried again says nothing about a version that is settled.
UPDATE penstock.object
SET state = CASE WHEN is_delete AND EXISTS (
                     SELECT FROM penstock.head h WHERE h.id = head_id AND h.object_id = object.id)
                 THEN state
                 WHEN imported_at IS NOT NULL AND ($2 <> 'failed' OR EXISTS (
                     SELECT FROM penstock.head h WHERE h.id = head_id AND h.object_id = object.id))
                 THEN 'imported' ELSE $2 END,
    reason = CASE WHEN $2 = 'gone' AND imported_at IS NOT NULL THEN coalesce($3, 'gone') ELSE $3 END,
    error = $4,
    forwarded_message_id = coalesce($5, forwarded_message_id),
    tried_recipe = CASE WHEN $2 IN ('failed', 'gone') THEN coalesce($7, tried_recipe) ELSE tried_recipe END,
    duration_seconds = CASE WHEN imported_at IS NULL
                            THEN coalesce($6, extract(epoch FROM clock_timestamp() - started_at)::float8)
                            ELSE duration_seconds END,
    finished_at = CASE WHEN $2 = 'retrying' THEN finished_at ELSE clock_timestamp() END
WHERE id = $1
  AND ($2 <> 'retrying' OR state IN ('importing', 'retrying'))
