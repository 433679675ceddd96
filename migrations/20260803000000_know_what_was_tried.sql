-- Through which dataset a step's object came, which recipe an object could not be made by, and looks for keys that do not
-- put each other off.

-- Whoever reads or writes the ledger waits behind this, so it does not wait long itself.
SET LOCAL lock_timeout = '5s';

-- `after`: of a dataset that follows others, the one that its import was told by; NULL: none, or not recorded.
-- `tried_recipe`: the last recipe that it was to be made anew by when it failed, or was gone.
ALTER TABLE penstock.object ADD COLUMN after text, ADD COLUMN tried_recipe text;

-- A look took too long, and no other is begun for the same before this time.
ALTER TABLE penstock.recheck_item ADD COLUMN took_too_long boolean NOT NULL DEFAULT false;

-- Looks for the keys of one lookup that have arrived, and makes it due that the objects that wait for them are run again:
-- at once, or five minutes after the last time; not while that is yet to be done, for an hour. What several asked for is
-- looked for once. What fails is asked for again later.
CREATE FUNCTION penstock.recheck(looked_up text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one       record;
    n_asked   bigint;
    n_before  integer;
    failed    text;
    is_denied boolean;
    path      text := current_setting('search_path');
BEGIN
    WITH asked AS (
        DELETE FROM penstock.recheck_item i
        WHERE i.id IN (SELECT r.id FROM penstock.recheck_item r
                       WHERE r.lookup = looked_up AND r.at <= clock_timestamp() FOR UPDATE SKIP LOCKED)
        RETURNING i.attempts
    )
    SELECT count(*), max(a.attempts) INTO n_asked, n_before FROM asked a;
    IF n_asked = 0 THEN
        RETURN;
    END IF;
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
                    'INSERT INTO penstock.refreshed AS r (head_id, object_id, due_at, has_run) '
                    'SELECT a.head_id, w.object_id, clock_timestamp(), false '
                    'FROM arrived a JOIN penstock.waiting_object w USING (head_id) '
                    'WHERE w.until > clock_timestamp() - interval ''1 day'' ORDER BY a.head_id '
                    'ON CONFLICT (head_id) DO UPDATE '
                    'SET object_id = excluded.object_id, has_run = false, due_at = '
                    'CASE WHEN r.object_id <> excluded.object_id THEN clock_timestamp() '
                    'ELSE greatest(clock_timestamp(), r.due_at + interval ''5 minutes'') END '
                    -- A run that is yet to begin sees these as well, if it is of this version.
                    'WHERE r.object_id <> excluded.object_id OR r.due_at <= clock_timestamp() '
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
END $$;

CREATE OR REPLACE FUNCTION penstock.recheck() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    looked_up text;
BEGIN
    FOR looked_up IN SELECT DISTINCT i.lookup FROM penstock.recheck_item i WHERE i.at <= clock_timestamp() ORDER BY 1 LOOP
        PERFORM penstock.recheck(looked_up);
    END LOOP;
END $$;
