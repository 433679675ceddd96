-- $1 head, $2 object that stands, $3 sequencer, $4 last modified of the sighting.
-- The head is locked as every writer locks it; no row comes out when another version stands by now.
WITH head AS (
    SELECT id FROM penstock.head WHERE id = $1 AND object_id = $2 FOR NO KEY UPDATE
)
UPDATE penstock.object o
SET reason = 'already_imported',
    sequencer = CASE WHEN sequencer IS NULL OR $3::text IS NULL THEN coalesce($3, sequencer)
                     WHEN rpad(sequencer, greatest(length(sequencer), length($3)), '0') COLLATE "C"
                        > rpad($3, greatest(length(sequencer), length($3)), '0') COLLATE "C" THEN sequencer
                     ELSE $3 END,
    last_modified = coalesce(greatest(last_modified, $4), last_modified),
    finished_at = clock_timestamp()
FROM head
WHERE o.id = $2
