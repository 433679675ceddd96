-- What objects wait for: keys that their rows name and that other tables do not have yet.
--
-- An object and the rows it waits for may commit in either order. Each asks for a recheck in its own transaction, so the
-- one that commits later is followed by a look that sees them both. Waits change only under the lock of their object's
-- head; a recheck changes none of them, but has the object run again, which finds out anew what it waits for.

-- Whoever sends what is due or ends an import waits behind this, so it does not wait long itself. Readers lock the view
-- before the tables, and so does this.
SET LOCAL lock_timeout = '5s';
ALTER VIEW penstock.due RESET (security_barrier);

-- Which fields of a dataset are awaited in which column, as the newest configuration that was started has it.
CREATE TABLE penstock.awaited (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset       text NOT NULL,
    field         text NOT NULL,
    -- The column, as it is configured.
    lookup        text NOT NULL,
    -- Its schema, table and name, quoted.
    schema_name   text NOT NULL,
    relation      text NOT NULL,
    column_name   text NOT NULL,
    -- The datasets that fill the table.
    fillers       text[] NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (dataset, field, lookup)
);

CREATE TABLE penstock.waiting_object (
    head_id    bigint PRIMARY KEY,
    object_id  bigint NOT NULL,
    since      timestamptz NOT NULL,
    -- When the last of its waits ends.
    until      timestamptz NOT NULL,
    -- Of `awaited`: what it does not wait for any more, and people were told.
    given_up   integer[] NOT NULL,
    -- What runs it again.
    pointer    jsonb NOT NULL,
    written_by xid8 NOT NULL DEFAULT pg_current_xact_id()
);

CREATE INDEX waiting_object_object ON penstock.waiting_object (object_id);
CREATE INDEX waiting_object_until ON penstock.waiting_object (until);

CREATE TABLE penstock.waiting_key (
    head_id    bigint NOT NULL,
    awaited_id integer NOT NULL,
    -- The type that `value` is compared in.
    value_type text NOT NULL,
    -- NULL: it is too long, or there are so many, that only the time is waited for.
    value      text,
    again_at   timestamptz NOT NULL
);
CREATE INDEX waiting_key_head ON penstock.waiting_key (head_id);
CREATE INDEX waiting_key_awaited ON penstock.waiting_key (awaited_id);

-- When an object was last due to be run again because of keys that arrived, and whether it was.
CREATE TABLE penstock.refreshed (
    head_id bigint PRIMARY KEY,
    due_at  timestamptz NOT NULL,
    has_run boolean NOT NULL
);

CREATE TABLE penstock.recheck_item (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lookup     text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    attempts   integer NOT NULL DEFAULT 0,
    error      text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE VIEW penstock.waiting AS
SELECT h.dataset, h.bucket, h.key, a.lookup, k.value, o.since, k.again_at
FROM penstock.waiting_object o
JOIN penstock.head h ON h.id = o.head_id
JOIN penstock.waiting_key k ON k.head_id = o.head_id
JOIN penstock.awaited a ON a.id = k.awaited_id;

CREATE OR REPLACE VIEW penstock.due AS
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
LEFT JOIN penstock.notification n ON i.kind = 'notify' AND n.name = i.target
UNION ALL
SELECT -r.id, r.at, 'recheck', r.lookup, '{}', r.attempts, r.error, r.created_at
FROM penstock.recheck_item r;

-- Makes the notice due that an object does not wait any more for keys that did not arrive.
CREATE FUNCTION penstock.tell_gave_up(
    of_dataset text, of_object bigint, of_pointer jsonb, lookups text[], since timestamptz)
RETURNS void LANGUAGE sql AS $$
    SELECT penstock.tell('gave_up', of_dataset, of_object, jsonb_build_object(
        'object_id', of_object, 'bucket', of_pointer ->> 'bucket', 'key', of_pointer ->> 'key',
        'version_id', of_pointer ->> 'version_id', 'etag', of_pointer ->> 'etag', 'size', of_pointer -> 'size',
        'state', 'imported', 'lookups', to_jsonb(lookups), 'waiting_since', since,
        'do', 'importer replay --force --dataset ' || penstock.quoted(of_dataset) || ' --prefix '
              || penstock.quoted('s3://' || (of_pointer ->> 'bucket') || '/' || (of_pointer ->> 'key'))))
$$;

-- Writes down what an object waits for: of pg_temp.penstock_missing, where its load left it. Called under the lock of the
-- object's head. `lookups`: number there, field, lookup, type, and the seconds of `again` and `give_up`.
CREATE FUNCTION penstock.record_waits(
    of_head bigint, of_object bigint, of_dataset text, of_pointer jsonb, lookups jsonb, max_keys integer)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    is_local boolean := of_pointer ->> 'bucket' = 'file' AND left(of_pointer ->> 'key', 1) = '/';
    began    timestamptz;
    asked_at timestamptz := clock_timestamp();
    one      record;
    n_keys   bigint;
    step     interval;
    next_at  timestamptz;
    ends_at  timestamptz;
    first_at timestamptz;
    last_at  timestamptz;
    known    penstock.waiting_object;
    told     integer[] := '{}';
    given_up text[];
BEGIN
    SELECT * INTO known FROM penstock.waiting_object w WHERE w.head_id = of_head;
    IF known.object_id = of_object THEN
        began := known.since;
        told := known.given_up;
        UPDATE penstock.refreshed r SET has_run = true WHERE r.head_id = of_head;
    ELSE
        -- What is due is of another version, and does not run this one.
        began := asked_at;
        DELETE FROM penstock.refreshed r WHERE r.head_id = of_head;
        DELETE FROM penstock.due_item i
        WHERE i.kind = 'step' AND i.object_id = known.object_id AND i.target = of_dataset AND i.event IN ('again', 'arrived');
    END IF;
    DELETE FROM penstock.waiting_object w WHERE w.head_id = of_head;
    DELETE FROM penstock.waiting_key k WHERE k.head_id = of_head;
    DELETE FROM penstock.due_item i
    WHERE i.kind = 'step' AND i.object_id = of_object AND i.target = of_dataset AND i.event = 'again';
    FOR one IN
        SELECT a.id, l.*
        FROM jsonb_to_recordset(lookups)
             AS l (number integer, field text, lookup text, value_type text, again integer, give_up integer)
        JOIN penstock.awaited a ON (a.dataset, a.field, a.lookup) = (of_dataset, l.field, l.lookup)
        ORDER BY l.number
    LOOP
        SELECT count(DISTINCT coalesce(m.value, '')) INTO n_keys
        FROM pg_temp.penstock_missing m WHERE m.number = one.number;
        CONTINUE WHEN n_keys = 0;
        ends_at := began + make_interval(secs => one.give_up);
        IF asked_at >= ends_at THEN
            IF one.id <> ALL (told) THEN
                told := told || one.id;
                given_up := given_up || one.lookup;
            END IF;
            CONTINUE;
        END IF;
        step := make_interval(secs => one.again);
        WHILE began + step <= asked_at LOOP
            step := step * 2;
        END LOOP;
        next_at := least(began + step, ends_at);
        first_at := least(first_at, next_at);
        last_at := greatest(last_at, ends_at);
        IF n_keys > max_keys THEN
            INSERT INTO penstock.waiting_key VALUES (of_head, one.id, one.value_type, NULL, next_at);
        ELSE
            INSERT INTO penstock.waiting_key
            SELECT DISTINCT of_head, one.id, one.value_type, m.value, next_at
            FROM pg_temp.penstock_missing m
            WHERE m.number = one.number;
            -- The rows waited for may have been committed since they were looked for.
            INSERT INTO penstock.recheck_item (lookup) SELECT one.lookup WHERE NOT is_local;
        END IF;
    END LOOP;
    IF first_at IS NULL THEN
        DELETE FROM penstock.refreshed r WHERE r.head_id = of_head;
    ELSE
        INSERT INTO penstock.waiting_object (head_id, object_id, since, until, given_up, pointer)
        VALUES (of_head, of_object, began, last_at, told, of_pointer);
        -- A file of one machine is nobody else's to read.
        INSERT INTO penstock.due_item (at, kind, target, event, object_id, body)
        SELECT first_at, 'step', of_dataset, 'again', of_object, of_pointer WHERE NOT is_local;
    END IF;
    IF given_up IS NOT NULL THEN
        PERFORM penstock.tell_gave_up(of_dataset, of_object, of_pointer, given_up, began);
    END IF;
END $$;

-- Looks for keys that have arrived, and makes it due that the objects that wait for them are run again: at once, or five
-- minutes after the last time; not while that is yet to be done, for an hour. What several asked for is looked for once.
-- What fails is asked for again later.
CREATE FUNCTION penstock.recheck() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    looked_up text;
    one       record;
    n_asked   bigint;
    n_before  integer;
    failed    text;
    is_denied boolean;
    path      text := current_setting('search_path');
BEGIN
    FOR looked_up IN SELECT DISTINCT i.lookup FROM penstock.recheck_item i WHERE i.at <= clock_timestamp() ORDER BY 1 LOOP
        WITH asked AS (
            DELETE FROM penstock.recheck_item i
            WHERE i.id IN (SELECT r.id FROM penstock.recheck_item r
                           WHERE r.lookup = looked_up AND r.at <= clock_timestamp() FOR UPDATE SKIP LOCKED)
            RETURNING i.attempts
        )
        SELECT count(*), max(a.attempts) INTO n_asked, n_before FROM asked a;
        CONTINUE WHEN n_asked = 0;
        failed := NULL;
        is_denied := false;
        -- Each statement from here on sees what was committed by those who asked.
        FOR one IN
            SELECT DISTINCT a.id, a.schema_name, a.relation, a.column_name, k.value_type
            FROM penstock.awaited a JOIN penstock.waiting_key k ON k.awaited_id = a.id
            WHERE a.lookup = looked_up AND k.value IS NOT NULL
            ORDER BY a.id, k.value_type
        LOOP
            BEGIN
                -- Where a type's operators are, if they are not Postgres's own; as where it was looked for at first.
                PERFORM set_config('search_path', 'pg_catalog, ' || one.schema_name || ', pg_temp', true);
                EXECUTE format(
                    'WITH arrived AS ('
                        'SELECT DISTINCT k.head_id FROM penstock.waiting_key k '
                        'WHERE k.awaited_id = $1 AND k.value_type = $2 AND k.value IS NOT NULL '
                        'AND EXISTS (SELECT FROM %s AS looked_up WHERE looked_up.%s = k.value::%s)'
                    '), due AS ('
                        'INSERT INTO penstock.refreshed AS r (head_id, due_at, has_run) '
                        'SELECT a.head_id, clock_timestamp(), false '
                        'FROM arrived a JOIN penstock.waiting_object w USING (head_id) '
                        'WHERE w.until > clock_timestamp() - interval ''1 day'' ORDER BY a.head_id '
                        'ON CONFLICT (head_id) DO UPDATE '
                        'SET due_at = greatest(clock_timestamp(), r.due_at + interval ''5 minutes''), has_run = false '
                        -- A run that is yet to begin sees these as well.
                        'WHERE r.due_at <= clock_timestamp() '
                        'AND (r.has_run OR r.due_at < clock_timestamp() - interval ''1 hour'') '
                        'RETURNING head_id, due_at'
                    ') INSERT INTO penstock.due_item (at, kind, target, event, object_id, body) '
                    'SELECT due.due_at, ''step'', h.dataset, ''arrived'', w.object_id, w.pointer '
                    'FROM due JOIN penstock.waiting_object w USING (head_id) JOIN penstock.head h ON h.id = w.head_id '
                    'WHERE NOT (h.bucket = ''file'' AND left(h.key, 1) = ''/'')',
                    one.relation, one.column_name, one.value_type)
                USING one.id, one.value_type;
                PERFORM set_config('search_path', path, true);
            EXCEPTION
                WHEN insufficient_privilege THEN
                    is_denied := true;
                    failed := coalesce(failed, SQLERRM);
                WHEN OTHERS THEN
                    -- No message that may quote a value.
                    failed := CASE WHEN left(SQLSTATE, 2) IN ('22', '23') THEN 'SQLSTATE ' || SQLSTATE ELSE SQLERRM END;
                    n_before := n_before + 1;
            END;
        END LOOP;
        IF failed IS NOT NULL THEN
            -- Others may have the right that is missing here.
            INSERT INTO penstock.recheck_item (lookup, at, attempts, error)
            VALUES (looked_up,
                    clock_timestamp() + CASE WHEN is_denied AND n_before = 0 THEN interval '0'
                                             ELSE make_interval(secs => least(900, 2 ^ least(n_before, 10))) END,
                    n_before, failed);
        END IF;
    END LOOP;
END $$;

-- Ends the waits of objects whose runs ended in no import until a day after they should have given up. Under the locks of
-- their heads, of which those are left for later that somebody else has.
CREATE FUNCTION penstock.give_up_waits() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one   record;
    ended record;
BEGIN
    FOR one IN
        SELECT h.id, h.dataset FROM penstock.head h
        WHERE h.id IN (SELECT w.head_id FROM penstock.waiting_object w
                       WHERE w.until < clock_timestamp() - interval '1 day' ORDER BY w.until LIMIT 100)
        FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        WITH gone AS (
            DELETE FROM penstock.waiting_object w
            WHERE w.head_id = one.id AND w.until < clock_timestamp() - interval '1 day'
            RETURNING w.object_id, w.pointer, w.since
        ), keys AS (
            DELETE FROM penstock.waiting_key k USING gone WHERE k.head_id = one.id RETURNING k.awaited_id
        )
        SELECT g.object_id, g.pointer, g.since,
               ARRAY(SELECT DISTINCT a.lookup FROM penstock.awaited a JOIN keys k ON k.awaited_id = a.id) AS lookups
        INTO ended
        FROM gone g;
        CONTINUE WHEN NOT FOUND;
        PERFORM penstock.tell_gave_up(one.dataset, ended.object_id, ended.pointer, ended.lookups, ended.since);
        DELETE FROM penstock.refreshed r WHERE r.head_id = one.id;
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    -- Others may.
    NULL;
END $$;

-- An import by whoever knows nothing of waits, and a removal, end them; and an import of what is awaited is followed by
-- a look.
CREATE FUNCTION penstock.follow_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM penstock.awaited) THEN
        RETURN NULL;
    END IF;
    IF NEW.state = 'imported' AND NEW.imported_at IS DISTINCT FROM OLD.imported_at OR NEW.is_delete AND NEW.state = 'gone' THEN
        DELETE FROM penstock.waiting_object w WHERE w.head_id = NEW.head_id AND w.written_by <> pg_current_xact_id();
        IF FOUND THEN
            DELETE FROM penstock.waiting_key k WHERE k.head_id = NEW.head_id;
            -- What is due then is let go when it is sent.
            DELETE FROM penstock.refreshed r WHERE r.head_id = NEW.head_id;
        END IF;
    ELSIF NEW.state = 'gone' AND NOT NEW.is_delete THEN
        -- What cannot be read any more does not become complete.
        DELETE FROM penstock.waiting_key k
        USING penstock.waiting_object w WHERE w.object_id = NEW.id AND k.head_id = w.head_id;
        DELETE FROM penstock.waiting_object w WHERE w.object_id = NEW.id;
    END IF;
    IF NEW.state = 'imported' AND NEW.imported_at IS DISTINCT FROM OLD.imported_at THEN
        INSERT INTO penstock.recheck_item (lookup)
        SELECT DISTINCT a.lookup
        FROM penstock.head h JOIN penstock.awaited a ON h.dataset = ANY (a.fillers)
        WHERE h.id = NEW.head_id;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER waits_followed AFTER UPDATE OF finished_at ON penstock.object
    FOR EACH ROW WHEN (NEW.finished_at IS DISTINCT FROM OLD.finished_at)
    EXECUTE FUNCTION penstock.follow_waits();

-- An object that is run again for what it waited for is no news to the steps after it; another version, read in its
-- place, is.
DROP TRIGGER followed ON penstock.object;
CREATE TRIGGER followed AFTER UPDATE OF finished_at ON penstock.object
    FOR EACH ROW WHEN (NEW.finished_at IS DISTINCT FROM OLD.finished_at
                       AND NOT (NEW.state = 'imported' AND OLD.imported_at IS NOT NULL
                                AND coalesce(current_setting('penstock.refresh', true), '') = 'on'))
    EXECUTE FUNCTION penstock.follow_end();

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
        WHERE c.oid = 'penstock.due_item'::regclass
          AND acl.grantee <> c.relowner
          AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON penstock.awaited, penstock.waiting_object, penstock.waiting_key, penstock.refreshed, '
                       'penstock.recheck_item TO %s', given.rights, given.role);
        EXECUTE format('GRANT SELECT ON penstock.waiting TO %s', given.role);
    END LOOP;
END $$;
