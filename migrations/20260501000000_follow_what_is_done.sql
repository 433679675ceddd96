-- What follows a commit: pointers for the steps after a dataset, and notices for people and other programs.
-- Rows of penstock.due_item are written in the transaction that causes them, by triggers, so that a worker whose
-- configuration or release is older does not lose one; they are sent, and deleted, afterwards.
-- The lock that CREATE TRIGGER takes waits no longer than this; where it is not granted the migration is tried again.
SET LOCAL lock_timeout = '5s';

-- The datasets that follow others, as the newest configuration that was started has them.
CREATE TABLE penstock.step (
    dataset       text PRIMARY KEY,
    after         text[] NOT NULL,
    -- Name and URL of the queue its pointers go to; without a URL they wait.
    queue         text NOT NULL,
    queue_url     text,
    registered_at timestamptz NOT NULL DEFAULT now()
);

-- Who is told of what.
CREATE TABLE penstock.notification (
    name          text PRIMARY KEY,
    -- The ARN of a topic or an event bus, or a queue's URL.
    target        text NOT NULL,
    events        text[] NOT NULL,
    -- NULL: all.
    datasets      text[],
    -- So many in so many seconds, for each dataset and event; NULL: all.
    at_most       integer,
    at_most_secs  integer,
    registered_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE penstock.due_item (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Not before; whoever sends it sets this to when others may try if it is not heard of again.
    at         timestamptz NOT NULL DEFAULT now(),
    kind       text NOT NULL CHECK (kind IN ('step', 'notify')),
    -- The dataset whose queue it goes to, or the name of the notification.
    target     text NOT NULL,
    -- What a notice is about.
    dataset    text,
    event      text,
    object_id  bigint,
    body       jsonb NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    error      text,
    -- A notice that counts in its window already.
    admitted   boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX due_item_at ON penstock.due_item (at);
CREATE INDEX due_item_object ON penstock.due_item (object_id) WHERE kind = 'step';

-- How many notices went out in the window that is open, and how many were held back.
CREATE TABLE penstock.notification_window (
    name      text NOT NULL REFERENCES penstock.notification ON DELETE CASCADE,
    dataset   text NOT NULL,
    event     text NOT NULL,
    opened_at timestamptz NOT NULL,
    n_sent    integer NOT NULL,
    n_held    integer NOT NULL,
    PRIMARY KEY (name, dataset, event)
);

CREATE VIEW penstock.due AS
SELECT i.id,
       i.at,
       i.kind,
       CASE i.kind WHEN 'step' THEN coalesce(s.queue_url, s.queue, i.target) ELSE coalesce(n.target, i.target) END AS target,
       i.body,
       i.attempts,
       i.error,
       i.created_at
FROM penstock.due_item i
LEFT JOIN penstock.step s ON i.kind = 'step' AND s.dataset = i.target
LEFT JOIN penstock.notification n ON i.kind = 'notify' AND n.name = i.target;

-- Makes a pointer due for every dataset that comes after this one. A file of one machine is nobody else's to read.
CREATE FUNCTION penstock.send_on(of_dataset text, object_id bigint, pointer jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO penstock.due_item (kind, target, object_id, body)
    SELECT 'step', s.dataset, object_id, pointer || jsonb_build_object('dataset', s.dataset, 'after', of_dataset)
    FROM penstock.step s
    WHERE of_dataset = ANY(s.after) AND NOT (pointer ->> 'bucket' = 'file' AND left(pointer ->> 'key', 1) = '/')
$$;

-- Makes notices of an event due for whoever wants to be told of it.
CREATE FUNCTION penstock.tell(happened text, of_dataset text, object_id bigint, said jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO penstock.due_item (kind, target, dataset, event, object_id, body)
    SELECT 'notify', n.name, of_dataset, happened, object_id,
           jsonb_build_object('penstock', 1, 'event', happened, 'dataset', nullif(of_dataset, '')) || said
    FROM penstock.notification n
    WHERE happened = ANY(n.events) AND (n.datasets IS NULL OR of_dataset = ANY(n.datasets))
$$;

-- A word for a shell.
CREATE FUNCTION penstock.quoted(word text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN word ~ '^[A-Za-z0-9_./:=@%+,-]+$' THEN word ELSE '''' || replace(word, '''', '''\''''') || '''' END
$$;

CREATE FUNCTION penstock.follow_end() RETURNS trigger LANGUAGE plpgsql AS $$
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
            'error', NEW.error,
            'counts', jsonb_build_object(
                'read', NEW.rows_read, 'written', NEW.rows_written, 'merged', NEW.rows_merged,
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

CREATE TRIGGER followed AFTER UPDATE OF finished_at ON penstock.object
    FOR EACH ROW WHEN (NEW.finished_at IS DISTINCT FROM OLD.finished_at)
    EXECUTE FUNCTION penstock.follow_end();

-- Claims what is due, for as long as the lease: whoever claimed it sends it, or others will. A notice beyond its
-- window's number is dropped and counted, and when the window ends it is said how many were.
-- `busy`: targets that are being sent to; a step and a notification may have the same name, so both are told by their
-- kind as well. Returns where each goes; no place: its queue has no URL.
CREATE FUNCTION penstock.claim_due(at_most integer, lease interval, busy text[])
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
                WHERE i.at <= began AND i.kind || ' ' || i.target <> ALL (busy)
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
        WHERE c.oid = 'penstock.object'::regclass
          AND acl.grantee <> c.relowner
          AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON penstock.step, penstock.notification, penstock.due_item, '
                       'penstock.notification_window TO %s', given.rights, given.role);
        EXECUTE format('GRANT SELECT ON penstock.due TO %s', given.role);
    END LOOP;
END $$;
