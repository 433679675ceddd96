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
    -- What runs it again.
    pointer    jsonb NOT NULL,
    written_by xid8 NOT NULL DEFAULT pg_current_xact_id()
);

CREATE TABLE penstock.waiting_key (
    head_id    bigint NOT NULL,
    awaited_id integer NOT NULL,
    -- The type that `value` is compared in.
    value_type text NOT NULL,
    -- NULL: there are so many that only the time is waited for.
    value      text,
    again_at   timestamptz NOT NULL
);
CREATE INDEX waiting_key_head ON penstock.waiting_key (head_id);
CREATE INDEX waiting_key_awaited ON penstock.waiting_key (awaited_id);

-- When an object was last due to be run again because of keys that arrived.
CREATE TABLE penstock.refreshed (
    head_id bigint PRIMARY KEY,
    due_at  timestamptz NOT NULL
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
SELECT r.id, r.at, 'recheck', r.lookup, '{}', r.attempts, r.error, r.created_at
FROM penstock.recheck_item r;

-- Writes down what an object waits for: of pg_temp.penstock_missing, where its load left it. Called under the lock of the
-- object's head. `lookups`: number there, field, lookup, type, and the seconds of `again` and `give_up`.
CREATE FUNCTION penstock.record_waits(
    of_head bigint, of_object bigint, of_dataset text, of_pointer jsonb, lookups jsonb)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    is_local boolean := of_pointer ->> 'bucket' = 'file' AND left(of_pointer ->> 'key', 1) = '/';
    began    timestamptz;
    asked_at timestamptz := clock_timestamp();
    one      record;
    n_keys   bigint;
    step     interval;
    next_at  timestamptz;
    first_at timestamptz;
    given_up text[];
BEGIN
    SELECT w.since INTO began FROM penstock.waiting_object w WHERE w.head_id = of_head AND w.object_id = of_object;
    began := coalesce(began, asked_at);
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
        SELECT count(DISTINCT m.value) INTO n_keys FROM pg_temp.penstock_missing m WHERE m.number = one.number;
        CONTINUE WHEN n_keys = 0;
        IF asked_at >= began + make_interval(secs => one.give_up) THEN
            given_up := given_up || one.lookup;
            CONTINUE;
        END IF;
        step := make_interval(secs => one.again);
        WHILE began + step <= asked_at LOOP
            step := step * 2;
        END LOOP;
        next_at := least(began + step, began + make_interval(secs => one.give_up));
        first_at := least(first_at, next_at);
        IF n_keys > 10000 THEN
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
        INSERT INTO penstock.waiting_object (head_id, object_id, since, pointer)
        VALUES (of_head, of_object, began, of_pointer);
        -- A file of one machine is nobody else's to read.
        INSERT INTO penstock.due_item (at, kind, target, event, object_id, body)
        SELECT first_at, 'step', of_dataset, 'again', of_object, of_pointer WHERE NOT is_local;
    END IF;
    IF given_up IS NOT NULL THEN
        PERFORM penstock.tell('gave_up', of_dataset, of_object, jsonb_build_object(
            'object_id', of_object, 'bucket', of_pointer ->> 'bucket', 'key', of_pointer ->> 'key',
            'version_id', of_pointer ->> 'version_id', 'etag', of_pointer ->> 'etag', 'size', of_pointer -> 'size',
            'state', 'imported', 'lookups', to_jsonb(given_up), 'waiting_since', began,
            'do', 'importer replay --force --dataset ' || penstock.quoted(of_dataset) || ' --prefix '
                  || penstock.quoted('s3://' || (of_pointer ->> 'bucket') || '/' || (of_pointer ->> 'key'))));
    END IF;
END $$;

-- Looks for keys that have arrived, and makes it due that the objects that wait for them are run again: at once, or five
-- minutes after the last time. What several asked for is looked for once. An error stays with what asked, for later.
CREATE FUNCTION penstock.recheck() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    looked_up text;
    one       record;
    path      text := current_setting('search_path');
BEGIN
    FOR looked_up IN SELECT DISTINCT i.lookup FROM penstock.recheck_item i WHERE i.at <= clock_timestamp() LOOP
        BEGIN
            DELETE FROM penstock.recheck_item i
            WHERE i.id IN (SELECT r.id FROM penstock.recheck_item r
                           WHERE r.lookup = looked_up AND r.at <= clock_timestamp() FOR UPDATE SKIP LOCKED);
            CONTINUE WHEN NOT FOUND;
            -- Each statement from here on sees what was committed by those who asked.
            FOR one IN
                SELECT DISTINCT a.id, a.schema_name, a.relation, a.column_name, k.value_type
                FROM penstock.awaited a JOIN penstock.waiting_key k ON k.awaited_id = a.id
                WHERE a.lookup = looked_up AND k.value IS NOT NULL
            LOOP
                -- Where a type's operators are, if they are not Postgres's own.
                PERFORM set_config('search_path', 'pg_catalog, ' || one.schema_name, true);
                EXECUTE format(
                    'WITH arrived AS ('
                        'SELECT DISTINCT k.head_id FROM penstock.waiting_key k '
                        'WHERE k.awaited_id = $1 AND k.value_type = $2 AND k.value IS NOT NULL '
                        'AND EXISTS (SELECT FROM %s AS looked_up WHERE looked_up.%s = k.value::%s)'
                    '), due AS ('
                        -- One that is yet to come sees these as well.
                        'INSERT INTO penstock.refreshed AS r (head_id, due_at) '
                        'SELECT head_id, clock_timestamp() FROM arrived ORDER BY head_id '
                        'ON CONFLICT (head_id) DO UPDATE '
                        'SET due_at = greatest(clock_timestamp(), r.due_at + interval ''5 minutes'') '
                        'WHERE r.due_at <= clock_timestamp() '
                        'RETURNING head_id, due_at'
                    ') INSERT INTO penstock.due_item (at, kind, target, event, object_id, body) '
                    'SELECT due.due_at, ''step'', h.dataset, ''arrived'', w.object_id, w.pointer '
                    'FROM due JOIN penstock.waiting_object w USING (head_id) JOIN penstock.head h ON h.id = w.head_id '
                    'WHERE NOT (h.bucket = ''file'' AND left(h.key, 1) = ''/'')',
                    one.relation, one.column_name, one.value_type)
                USING one.id, one.value_type;
                PERFORM set_config('search_path', path, true);
            END LOOP;
        EXCEPTION
            WHEN insufficient_privilege THEN
                -- Others may.
                UPDATE penstock.recheck_item i SET error = SQLERRM
                WHERE i.lookup = looked_up AND i.error IS DISTINCT FROM SQLERRM;
            WHEN OTHERS THEN
                UPDATE penstock.recheck_item i
                SET at = clock_timestamp() + make_interval(secs => least(900, 2 ^ least(i.attempts + 1, 10))),
                    attempts = i.attempts + 1, error = SQLERRM
                WHERE i.lookup = looked_up AND i.at <= clock_timestamp();
        END;
    END LOOP;
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
            DELETE FROM penstock.refreshed r WHERE r.head_id = NEW.head_id;
        END IF;
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

-- An object that is run again for what it waited for is no news to the steps after it.
DROP TRIGGER followed ON penstock.object;
CREATE TRIGGER followed AFTER UPDATE OF finished_at ON penstock.object
    FOR EACH ROW WHEN (NEW.finished_at IS DISTINCT FROM OLD.finished_at
                       AND coalesce(current_setting('penstock.refresh', true), '') <> 'on')
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
        WHERE c.oid = 'penstock.object'::regclass
          AND acl.grantee <> c.relowner
          AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON penstock.awaited, penstock.waiting_object, penstock.waiting_key, penstock.refreshed, '
                       'penstock.recheck_item TO %s', given.rights, given.role);
        EXECUTE format('GRANT SELECT ON penstock.waiting TO %s', given.role);
    END LOOP;
END $$;
