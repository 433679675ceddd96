-- Per object: $1 object, $2 head, $3 version id, $4 sequencer, $5 last modified, $6 rows read, $7 written,
-- $8 merged, $9 filtered, $10 added, $11 bytes, $15 and $16 when the message was sent and first received, $17 the dataset
-- whose import it follows; $12 technique, $13 seconds of each, $14 recipe.
-- finish_imported.sql for many versions, none of which was imported before: their rows were recorded with this
-- very stamp, so what is left to settle is a Last-Modified and a version id that came with the bytes.
-- What else was begun of the key and is no newer is overtaken, as in finish_imported.sql. OFFSET 0 as in
-- ensure_heads.sql; the updates need what by_index.sql says.
WITH done AS (
    SELECT *
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[], $7::bigint[],
                $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $15::timestamptz[], $16::timestamptz[],
                $17::text[])
        AS done (id, head_id, version_id, sequencer, last_modified, n_read, n_written, n_merged, n_filtered, n_added,
                 n_bytes, sent_at, first_received_at, after)
), heads AS (
    UPDATE penstock.head h SET object_id = done.id FROM done WHERE h.id = done.head_id
), overtaken AS (
    UPDATE penstock.object b
    SET state = 'superseded', reason = 'overtaken', error = NULL, finished_at = clock_timestamp()
    FROM done own
    WHERE b.head_id = own.head_id
      AND b.id <> own.id
      AND NOT b.is_delete
      AND b.state IN ('importing', 'retrying')
      AND coalesce(penstock.is_no_later(b.sequencer, b.last_modified, own.sequencer, own.last_modified),
                   b.etag IS NULL OR b.size IS NULL)
)
UPDATE penstock.object o
SET state = 'imported',
    reason = NULL,
    error = NULL,
    version_id = CASE WHEN o.version_id IS NULL AND NOT EXISTS (
                          SELECT FROM penstock.object other
                          WHERE other.head_id = done.head_id AND other.version_id = done.version_id
                          OFFSET 0)
                      THEN done.version_id ELSE o.version_id END,
    sequencer = coalesce(o.sequencer, done.sequencer),
    last_modified = greatest(o.last_modified, done.last_modified),
    rows_read = done.n_read,
    rows_added = done.n_added,
    rows_written = done.n_written,
    rows_merged = done.n_merged,
    rows_filtered = done.n_filtered,
    rows_rejected = 0,
    bytes = done.n_bytes,
    technique = $12,
    recipe = $14,
    sent_at = done.sent_at,
    first_received_at = done.first_received_at,
    after = done.after,
    duration_seconds = $13,
    imported_at = clock_timestamp(),
    finished_at = clock_timestamp(),
    forwarded_message_id = NULL
FROM done
WHERE o.id = done.id
