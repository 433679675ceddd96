-- A transform may make several rows of one. The previous release writes no such count: it stands for 0.
-- The new constraint says the same of every row there is, so nothing is looked through again.

-- Whoever reads or writes the ledger waits behind this, so it does not wait long itself. Readers lock the view before
-- the tables, and so does this: it sets nothing, but takes the view's lock.
SET LOCAL lock_timeout = '5s';
ALTER VIEW penstock.object_status RESET (security_barrier);

ALTER TABLE penstock.object ADD COLUMN rows_added bigint;
ALTER TABLE penstock.object DROP CONSTRAINT rows_add_up;
ALTER TABLE penstock.object ADD CONSTRAINT rows_add_up CHECK (state <> 'imported' OR coalesce(
    rows_read + coalesce(rows_added, 0) = rows_written + rows_merged + rows_filtered + rows_rejected, false)) NOT VALID;

-- Where the previous release imports an object again, its counts add up without rows that were added before.
CREATE FUNCTION penstock.forget_added_rows() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.rows_read = NEW.rows_written + NEW.rows_merged + NEW.rows_filtered + NEW.rows_rejected THEN
        NEW.rows_added := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER forget_added_rows BEFORE UPDATE ON penstock.object
    FOR EACH ROW WHEN (NEW.rows_added > 0) EXECUTE FUNCTION penstock.forget_added_rows();

CREATE OR REPLACE VIEW penstock.object_status AS
SELECT o.id,
       NULLIF(h.dataset, '') AS dataset,
       h.bucket,
       h.key,
       o.version_id,
       o.etag,
       o.size,
       o.sequencer,
       o.state,
       o.reason,
       o.attempts,
       o.worker,
       o.rows_read,
       o.rows_written,
       o.rows_merged,
       o.rows_filtered,
       o.rows_rejected,
       o.bytes,
       o.event_time,
       o.first_seen_at,
       o.started_at,
       o.imported_at,
       o.duration_seconds,
       o.error,
       o.rows_added
FROM penstock.object o
JOIN penstock.head h ON h.id = o.head_id;

-- Notices say it, too.
CREATE OR REPLACE FUNCTION penstock.follow_end() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    head     penstock.head;
    events   text[];
    happened text;
    address  text;
BEGIN
    IF NEW.state = 'imported' AND NEW.imported_at IS DISTINCT FROM OLD.imported_at THEN
        events := CASE WHEN NEW.rows_rejected > 0 THEN ARRAY['imported', 'rejected'] ELSE ARRAY['imported'] END;
    ELSIF NEW.is_delete AND NEW.state = 'gone' THEN
        events := ARRAY['removed'];
    ELSIF NEW.state = 'superseded' THEN
        events := ARRAY['superseded'];
    ELSIF NEW.state = 'failed' OR NEW.state = 'imported' AND NEW.error IS NOT NULL THEN
        events := ARRAY['failed'];
    ELSE
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM penstock.step) AND NOT EXISTS (SELECT FROM penstock.notification) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO head FROM penstock.head h WHERE h.id = NEW.head_id;
    IF events[1] = 'imported' THEN
        PERFORM penstock.send_on(head.dataset, NEW.id, jsonb_strip_nulls(jsonb_build_object(
            'bucket', head.bucket, 'key', head.key, 'version_id', NEW.version_id, 'etag', NEW.etag, 'size', NEW.size,
            'sequencer', NEW.sequencer)));
    END IF;
    address := CASE WHEN head.bucket = 'file' AND left(head.key, 1) = '/' THEN head.key
                    ELSE 's3://' || head.bucket || '/' || head.key END;
    FOREACH happened IN ARRAY events LOOP
        PERFORM penstock.tell(happened, head.dataset, NEW.id, jsonb_build_object(
            'object_id', NEW.id,
            'bucket', head.bucket,
            'key', head.key,
            'version_id', NEW.version_id,
            'etag', NEW.etag,
            'size', NEW.size,
            'state', NEW.state,
            'reason', NEW.reason,
            -- Not what a command wrote to standard error, which may be values.
            'error', CASE WHEN NEW.reason = 'command' OR NEW.error LIKE 'the command %' THEN split_part(NEW.error, ': ', 1)
                          ELSE NEW.error END,
            'counts', jsonb_build_object(
                'read', NEW.rows_read, 'added', coalesce(NEW.rows_added, 0), 'written', NEW.rows_written, 'merged', NEW.rows_merged,
                'filtered', NEW.rows_filtered, 'rejected', NEW.rows_rejected),
            'times', jsonb_build_object(
                'event', NEW.event_time, 'first_seen', NEW.first_seen_at, 'started', NEW.started_at,
                'finished', NEW.finished_at),
            'do', CASE happened
                      WHEN 'failed' THEN
                          CASE WHEN NEW.state <> 'failed' OR NEW.is_delete OR head.dataset = ''
                               THEN 'importer status ' || penstock.quoted(address)
                               WHEN address NOT LIKE 's3://%' THEN 'importer load ' || penstock.quoted(address)
                               ELSE 'importer replay --state failed --dataset ' || penstock.quoted(head.dataset)
                                    || ' --prefix ' || penstock.quoted(address) END
                      WHEN 'rejected' THEN 'importer rejects --replay ' || penstock.quoted(address)
                      ELSE 'importer status ' || penstock.quoted(address) END));
    END LOOP;
    RETURN NULL;
END $$;
