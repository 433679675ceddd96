-- Per object: $1 head, $2 object that stands.
-- note_seen_again.sql for sightings that are no newer than what is known of the version that stands: there is no
-- stamp to move on, so the head needs no lock; what another version replaced meanwhile keeps what it says.
-- It is for people to see, so the commit does not wait for the disk, as in begin.sql.
UPDATE penstock.object o
SET reason = 'already_imported',
    error = NULL,
    finished_at = clock_timestamp()
FROM unnest($1::bigint[], $2::bigint[]) AS seen (head_id, id)
JOIN penstock.head h ON h.id = seen.head_id
CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) relaxed
WHERE o.id = seen.id AND h.object_id = seen.id AND o.state = 'imported'
