-- A transform may make several rows of one. The previous release writes no such count: it stands for 0.
-- The new constraint says the same of every row there is, so nothing is looked through again.

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
