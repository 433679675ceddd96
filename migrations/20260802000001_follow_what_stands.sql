-- Which version a run is due of: a look for keys that began before another version was imported may write down the old one
-- after it, which is to hold up nothing of the new one (the next migration has the look).
ALTER TABLE penstock.refreshed ADD COLUMN object_id bigint;

-- Bytes that are put again are the version that stands, so nothing is imported; but the steps may have been told of a
-- removal, or of another version, in between.
CREATE FUNCTION penstock.follow_sighting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM penstock.send_on(h.dataset, NEW.id, jsonb_strip_nulls(jsonb_build_object(
        'bucket', h.bucket, 'key', h.key, 'version_id', NEW.version_id, 'etag', NEW.etag, 'size', NEW.size,
        'sequencer', NEW.sequencer)))
    FROM penstock.head h
    WHERE h.id = NEW.head_id AND EXISTS (SELECT FROM penstock.step s WHERE h.dataset = ANY (s.after));
    RETURN NULL;
END $$;

CREATE TRIGGER sighting_followed AFTER UPDATE OF finished_at ON penstock.object
    FOR EACH ROW WHEN (NEW.state = 'imported' AND NEW.imported_at = OLD.imported_at
                       AND (NEW.sequencer, NEW.last_modified) IS DISTINCT FROM (OLD.sequencer, OLD.last_modified))
    EXECUTE FUNCTION penstock.follow_sighting();
