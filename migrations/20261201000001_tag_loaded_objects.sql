-- What was loaded gets a tag in S3 after its commit (`after_load`), by which a lifecycle rule may delete or move it.
-- The locks that CREATE TRIGGER and ALTER TABLE take wait no longer than this; where they are not granted the migration is
-- tried again.
SET LOCAL lock_timeout = '5s';

-- The datasets whose objects get a tag, as the newest configuration that was started has them.
CREATE TABLE penstock.tagging (
    dataset       text PRIMARY KEY,
    key           text NOT NULL,
    value         text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE penstock.due_item
    DROP CONSTRAINT due_item_kind_check,
    ADD CONSTRAINT due_item_kind_check CHECK (kind IN ('step', 'notify', 'tag'));
-- What is sent is not looked for among tags that wait; and tags of one object are written one after the other.
CREATE INDEX due_item_sent_at ON penstock.due_item (at, id) WHERE kind <> 'tag';
CREATE INDEX due_item_tagged ON penstock.due_item ((body ->> 'bucket'), (body ->> 'key'), id) WHERE kind = 'tag';

-- Makes the tag of a version due that was imported. A file of one machine has none.
CREATE FUNCTION penstock.follow_tag() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM penstock.tagging) THEN
        RETURN NULL;
    END IF;
    INSERT INTO penstock.due_item (kind, target, dataset, object_id, body)
    SELECT 'tag', h.dataset, h.dataset, NEW.id, jsonb_strip_nulls(jsonb_build_object(
               'bucket', h.bucket, 'key', h.key, 'version_id', NEW.version_id, 'etag', NEW.etag,
               'tag', t.key, 'value', t.value))
    FROM penstock.head h
    JOIN penstock.tagging t ON t.dataset = h.dataset
    WHERE h.id = NEW.head_id AND NOT (h.bucket = 'file' AND left(h.key, 1) = '/');
    RETURN NULL;
END $$;

-- An object that is run again for what it waited for has its tag.
CREATE TRIGGER tag_followed AFTER UPDATE OF finished_at ON penstock.object
    FOR EACH ROW WHEN (NEW.finished_at IS DISTINCT FROM OLD.finished_at
                       AND NEW.state = 'imported' AND NEW.imported_at IS DISTINCT FROM OLD.imported_at
                       AND NOT (OLD.imported_at IS NOT NULL
                                AND coalesce(current_setting('penstock.refresh', true), '') = 'on'))
    EXECUTE FUNCTION penstock.follow_tag();

CREATE OR REPLACE VIEW penstock.due AS
SELECT i.id,
       i.at,
       i.kind,
       CASE i.kind WHEN 'step' THEN coalesce(s.queue_url, s.queue, i.target)
                   WHEN 'tag' THEN 's3://' || (i.body ->> 'bucket')
                   ELSE coalesce(n.target, i.target) END AS target,
       i.body,
       i.attempts,
       i.error,
       i.created_at
FROM penstock.due_item i
LEFT JOIN penstock.step s ON i.kind = 'step' AND s.dataset = i.target
LEFT JOIN penstock.notification n ON i.kind = 'notify' AND n.name = i.target
UNION ALL
SELECT -r.id, r.at, 'recheck', r.lookup, '{}', r.attempts, r.error, r.created_at
FROM penstock.recheck_item r;

-- As before, but for tags: only importers write them, which read the objects anyway.
CREATE OR REPLACE FUNCTION penstock.claim_due(at_most integer, lease interval, busy text[])
    RETURNS TABLE (id bigint, kind text, target text, place text, event text, body text, attempts integer)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    item     penstock.due_item;
    wish     penstock.notification;
    held     integer;
    ends_at  timestamptz;
    -- Not the clock itself, which no index can be asked for.
    began    timestamptz := clock_timestamp();
    n_seen   integer;
    n_out    integer;
BEGIN
    -- Again where all there was is held back, for there may be others behind.
    FOR round IN 1 .. 50 LOOP
        n_seen := 0;
        n_out := 0;
        FOR item IN
            -- Windows are locked in one order by everybody.
            SELECT * FROM (
                SELECT * FROM penstock.due_item i
                WHERE i.kind <> 'tag' AND i.at <= began AND i.kind || ' ' || i.target <> ALL (busy)
                ORDER BY i.at, i.id LIMIT at_most FOR UPDATE SKIP LOCKED
            ) i
            ORDER BY i.target, coalesce(i.dataset, ''), coalesce(i.body ->> 'of', i.event), i.at, i.id
        LOOP
            n_seen := n_seen + 1;
            IF item.kind = 'step' THEN
                place := (SELECT s.queue_url FROM penstock.step s WHERE s.dataset = item.target);
            ELSE
                SELECT * INTO wish FROM penstock.notification n WHERE n.name = item.target;
                place := wish.target;
                IF item.event = 'held_back' AND NOT item.admitted THEN
                    UPDATE penstock.notification_window w SET n_held = 0
                    FROM (SELECT * FROM penstock.notification_window w
                          WHERE (w.name, w.dataset, w.event) = (item.target, coalesce(item.dataset, ''), item.body ->> 'of')
                          FOR UPDATE) old
                    WHERE (w.name, w.dataset, w.event) = (old.name, old.dataset, old.event)
                    RETURNING old.n_held INTO held;
                    item.body := item.body || jsonb_build_object('held_back', coalesce(held, 0));
                    item.admitted := true;
                ELSIF NOT item.admitted AND wish.at_most IS NOT NULL THEN
                    INSERT INTO penstock.notification_window AS w (name, dataset, event, opened_at, n_sent, n_held)
                    VALUES (item.target, coalesce(item.dataset, ''), item.event, clock_timestamp(), 1, 0)
                    ON CONFLICT (name, dataset, event) DO UPDATE SET
                        opened_at = CASE WHEN w.opened_at + make_interval(secs => wish.at_most_secs) <= clock_timestamp()
                                         THEN clock_timestamp() ELSE w.opened_at END,
                        n_sent = CASE WHEN w.opened_at + make_interval(secs => wish.at_most_secs) <= clock_timestamp() THEN 1
                                      ELSE least(w.n_sent, wish.at_most) + 1 END,
                        n_held = w.n_held + CASE WHEN w.opened_at + make_interval(secs => wish.at_most_secs) > clock_timestamp()
                                                      AND w.n_sent >= wish.at_most THEN 1 ELSE 0 END
                    RETURNING CASE WHEN w.n_sent > wish.at_most THEN w.n_held ELSE 0 END,
                              w.opened_at + make_interval(secs => wish.at_most_secs) INTO held, ends_at;
                    IF held > 0 THEN
                        DELETE FROM penstock.due_item i WHERE i.id = item.id;
                        IF held = 1 THEN
                            INSERT INTO penstock.due_item (at, kind, target, dataset, event, body)
                            VALUES (ends_at, 'notify', item.target, item.dataset, 'held_back', jsonb_build_object(
                                'penstock', 1, 'event', 'held_back', 'dataset', nullif(item.dataset, ''), 'of', item.event,
                                'do', 'importer status'));
                        END IF;
                        CONTINUE;
                    END IF;
                    item.admitted := true;
                END IF;
            END IF;
            UPDATE penstock.due_item i
            SET at = clock_timestamp() + lease, attempts = i.attempts + 1, admitted = item.admitted, body = item.body
            WHERE i.id = item.id;
            id := item.id;
            kind := item.kind;
            target := item.kind || ' ' || item.target;
            event := item.event;
            body := item.body::text;
            attempts := item.attempts + 1;
            RETURN NEXT;
            n_out := n_out + 1;
        END LOOP;
        EXIT WHEN n_out > 0 OR n_seen = 0;
    END LOOP;
END $$;

-- Whoever may read or write the ledger may do so here, also where rights were given by hand.
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END AS role,
               CASE WHEN acl.privilege_type = 'SELECT' THEN 'SELECT' ELSE 'SELECT, INSERT, UPDATE, DELETE' END AS rights
        FROM pg_catalog.pg_class c
        CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) acl
        WHERE c.oid = 'penstock.step'::regclass
          AND acl.grantee <> c.relowner
          AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON penstock.tagging TO %s', given.rights, given.role);
    END LOOP;
END $$;
