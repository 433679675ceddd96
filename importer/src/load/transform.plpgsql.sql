-- Placeholders: {class} a word for the reject of an error, from code, in_constraint and in_table, {of_server} codes or
-- their beginnings, with | between, {lacks} those of what a called function lacks, {of} what ends the names of functions, {security} INVOKER or DEFINER, {begin} and
-- {end} what makes another role own them.
-- What a session needs to run transforms.
CREATE TEMP TABLE IF NOT EXISTS penstock_refused (penstock_row bigint, class text, column_name text, message text)
    ON COMMIT DELETE ROWS;

-- Values that rows name and that are not where they are awaited, by the number of the setting.
CREATE TEMP TABLE IF NOT EXISTS penstock_missing (number integer, value text) ON COMMIT DELETE ROWS;

{begin}

-- Returns what of the session the SQL of another role could leave changed behind it, and nothing of the session's own role.
CREATE OR REPLACE FUNCTION pg_temp.penstock_settings{of}()
RETURNS text LANGUAGE sql SET search_path = pg_catalog AS $function$
    SELECT coalesce(string_agg(concat(name, '=', setting), chr(10) ORDER BY name), '')
    FROM pg_settings
    WHERE current_user <> session_user AND source = 'session' AND name NOT IN ('search_path', 'transaction_read_only')
$function$;

-- Refuses what the SQL of another role left for the session's own to run into, in whose rights it would run: a setting, a
-- cursor that COMMIT runs, a prepared statement.
CREATE OR REPLACE FUNCTION pg_temp.penstock_as_found{of}(settings text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $function$
BEGIN
    IF current_user <> session_user AND (
        pg_temp.penstock_settings{of}() <> settings
        OR EXISTS (SELECT FROM pg_cursors WHERE is_holdable)
        OR EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql AND name <> 'penstock_ranged')
    ) THEN
        RAISE EXCEPTION USING ERRCODE = '25001', MESSAGE =
            'a function that the transform calls leaves a setting, a cursor or a prepared statement behind';
    END IF;
END
$function$;

-- Runs a transform. It is read-only, so that nothing a fragment calls can write to a table that lasts or to a sequence;
-- the staging tables are temporary. `names` is the search_path fragments see.
CREATE OR REPLACE FUNCTION pg_temp.penstock_transform{of}(whole text, names text)
RETURNS bigint LANGUAGE plpgsql SECURITY {security} SET search_path = pg_catalog AS $function$
DECLARE
    n_rows bigint;
    settings text := pg_temp.penstock_settings{of}();
BEGIN
    BEGIN
        PERFORM set_config('transaction_read_only', 'on', true), set_config('search_path', names, true);
        EXECUTE whole;
        GET DIAGNOSTICS n_rows = ROW_COUNT;
        -- As the session has it, whatever was set; a function's own setting would last.
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog', false);
    EXCEPTION WHEN SQLSTATE 'PN002' THEN
        -- Nobody raises it: what may catch something is a subtransaction, whose end takes back that it is read-only
        -- (CommitSubTransaction in xact.c). As a setting of the function, 17 refuses it.
        RAISE;
    END;
    PERFORM pg_temp.penstock_as_found{of}(settings);
    RETURN n_rows;
END
$function$;

-- Runs a transform of rows 1 to last_row in ranges, and writes those that are refused by themselves to penstock_refused,
-- `allowed` of them at most. `staging` is where the rows are, `ranged` is the statement for rows $1 to $2, and errors whose
-- code matches `never` are no row's.
--
-- A range is as long as lets it go through about three times in five, by the rows refused so far, and what is in the way in
-- it is found by halving. Prepared, and planned for few rows, for it runs very often.
CREATE OR REPLACE FUNCTION pg_temp.penstock_transform_apart{of}(
    staging text, ranged text, names text, last_row bigint, allowed bigint, never text)
RETURNS void LANGUAGE plpgsql SECURITY {security} SET search_path = pg_catalog SET plan_cache_mode = force_generic_plan AS $function$
DECLARE
    lo bigint := 1;
    hi bigint;
    -- The end of a range that is known to hold a row that is refused.
    refused_by bigint;
    n_found bigint := 0;
    code text;
    said text;
    in_column text;
    in_constraint text;
    in_table text;
    context text;
    word text;
    of_function boolean;
    settings text := pg_temp.penstock_settings{of}();
BEGIN
    IF EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'penstock_ranged') THEN
        DEALLOCATE penstock_ranged;
    END IF;
    PERFORM set_config('search_path', names, true);
    EXECUTE concat('PREPARE penstock_ranged (bigint, bigint) AS ', ranged);
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog', false);
    WHILE lo <= last_row LOOP
        hi := CASE WHEN refused_by IS NOT NULL THEN (lo + refused_by) / 2
                   WHEN n_found = 0 THEN lo + 4095
                   ELSE lo + least(4095, (lo - 1) / (2 * n_found)) END;
        IF hi = lo + 4095 THEN
            -- Few rows of many, where rejects are tried again.
            EXECUTE format('SELECT min(penstock_row) FROM %s WHERE penstock_row >= $1', staging) INTO lo USING lo;
            EXIT WHEN lo IS NULL;
            hi := lo + 4095;
        END IF;
        BEGIN
            PERFORM set_config('transaction_read_only', 'on', true), set_config('search_path', names, true);
            EXECUTE pg_catalog.concat('EXECUTE penstock_ranged (', lo, ', ', hi, ')');
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog', false);
            lo := hi OPERATOR(pg_catalog.+) 1;
            IF lo > refused_by THEN
                refused_by := NULL;
            END IF;
        EXCEPTION WHEN OTHERS OR ASSERT_FAILURE THEN
            GET STACKED DIAGNOSTICS
                code = RETURNED_SQLSTATE, said = MESSAGE_TEXT, in_column = COLUMN_NAME, in_constraint = CONSTRAINT_NAME,
                in_table = TABLE_NAME, context = PG_EXCEPTION_CONTEXT;
            -- As in may_be_of_a_row; anything else is not the row's fault. A line before the statement's own: out of a
            -- function.
            of_function := strpos(left(context, strpos(context, 'EXECUTE penstock_ranged')), chr(10)) > 0;
            -- plpgsql does not translate the name of the statement in which a function raises an error itself.
            IF code ~ never OR NOT of_function AND code ~ '^({of_server})'
                OR of_function AND code ~ '^({lacks})' AND split_part(context, chr(10), 1) !~ 'RAISE$' THEN
                RAISE;
            END IF;
            IF hi > lo THEN
                refused_by := hi;
                CONTINUE;
            END IF;
            IF n_found = 0 THEN
                -- What fails without a row as well is the statement's fault; this raises it.
                BEGIN
                    PERFORM set_config('transaction_read_only', 'on', true), set_config('search_path', names, true);
                    EXECUTE 'EXECUTE penstock_ranged (1, 0)';
                    PERFORM pg_catalog.set_config('search_path', 'pg_catalog', false);
                EXCEPTION WHEN SQLSTATE 'PN002' THEN
                    RAISE;
                END;
            END IF;
            n_found := n_found + 1;
            word := {class};
            IF of_function AND left(code, 2) IN ('42', '3F', '0A') THEN
                word := 'trigger';
            END IF;
            IF n_found > allowed THEN
                -- No message of the server's here: it may quote the row's values.
                RAISE EXCEPTION USING ERRCODE = 'PN001', DETAIL = CASE WHEN of_function THEN code ELSE '' END, MESSAGE = format(
                    'the transform refuses more rows than max_rejects allows, or all of them; the latest found is row %s (%s)',
                    lo, word);
            END IF;
            INSERT INTO pg_temp.penstock_refused VALUES (lo, word, nullif(in_column, ''), said);
            lo := lo + 1;
            refused_by := NULL;
        END;
    END LOOP;
    DEALLOCATE penstock_ranged;
    PERFORM pg_temp.penstock_as_found{of}(settings);
END
$function$;

-- Runs a statement for rows $1 to $2 without those whose values it does not take.
CREATE OR REPLACE FUNCTION pg_temp.penstock_of_taken_rows{of}(ranged text, names text, staging text)
RETURNS void LANGUAGE plpgsql SECURITY {security} SET search_path = pg_catalog AS $function$
DECLARE
    lo bigint := 1;
    n_rows bigint := 4096;
    last_row bigint;
    settings text := pg_temp.penstock_settings{of}();
BEGIN
    EXECUTE concat('SELECT max(penstock_row) FROM ', staging) INTO last_row;
    WHILE lo <= last_row LOOP
        BEGIN
            PERFORM set_config('transaction_read_only', 'on', true), set_config('search_path', names, true);
            EXECUTE ranged USING lo, lo OPERATOR(pg_catalog.+) n_rows OPERATOR(pg_catalog.-) 1;
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog', false);
            lo := lo OPERATOR(pg_catalog.+) n_rows;
            n_rows := least(n_rows OPERATOR(pg_catalog.*) 2, 4096);
        EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
            IF n_rows = 1 THEN
                lo := lo + 1;
            ELSE
                n_rows := n_rows / 2;
            END IF;
        END;
    END LOOP;
    PERFORM pg_temp.penstock_as_found{of}(settings);
END
$function$;

{end}
