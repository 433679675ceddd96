-- Per object: $1 head, $2 object that stands.
-- note_seen_again.sql for sightings that are no newer than what is known of the version that stands: there is no
-- stamp to move on, so the head needs no lock; what another version replaced meanwhile keeps what it says.
-- It is for people to see, so the commit does not wait for the disk, as in begin.sql.
-- What else was begun of the key and is no newer is overtaken, as in finish_imported.sql.
WITH seen AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS seen (head_id, id)
), overtaken AS (
    UPDATE penstock.object b
    SET state = 'superseded', reason = 'overtaken', error = NULL, finished_at = clock_timestamp()
    FROM penstock.object own JOIN seen ON seen.id = own.id JOIN penstock.head h ON h.object_id = own.id
    WHERE b.head_id = own.head_id
      AND b.id <> own.id
      AND NOT b.is_delete
      AND b.state IN ('importing', 'retrying')
      AND coalesce(penstock.is_no_later(b.sequencer, b.last_modified, own.sequencer, own.last_modified),
                   b.etag IS NULL OR b.size IS NULL)
)
UPDATE penstock.object o
SET reason = 'already_imported',
    error = NULL,
    finished_at = clock_timestamp()
FROM seen
JOIN penstock.head h ON h.id = seen.head_id
CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) relaxed
WHERE o.id = seen.id AND h.object_id = seen.id AND o.state = 'imported'
