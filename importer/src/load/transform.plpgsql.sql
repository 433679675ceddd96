-- Placeholders: {class} a word for the reject of an error, from code, in_constraint and in_table, {of_server} codes or
-- their beginnings, with | between.
-- What a session needs to run transforms.
CREATE TEMP TABLE penstock_refused (penstock_row bigint, class text, column_name text, message text)
    ON COMMIT DELETE ROWS;

-- Runs a transform, or rows lo to hi of it. It is read-only, so that nothing a fragment calls can write to a table that
-- lasts or to a sequence; the staging tables are temporary. `names` is the search_path fragments see.
CREATE FUNCTION pg_temp.penstock_transform(statement text, names text, lo bigint, hi bigint)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog AS $function$
DECLARE
    n_rows bigint;
BEGIN
    BEGIN
        PERFORM set_config('transaction_read_only', 'on', true), set_config('search_path', names, true);
        EXECUTE statement USING lo, hi;
        GET DIAGNOSTICS n_rows = ROW_COUNT;
    EXCEPTION WHEN SQLSTATE 'PN002' THEN
        -- Nobody raises it: what may catch something is a subtransaction, whose end takes back that it is read-only
        -- (CommitSubTransaction in xact.c). As a setting of the function, 17 refuses it.
        RAISE;
    END;
    RETURN n_rows;
END
$function$;

-- Runs a transform of rows 1 to last_row in ranges, and those that are refused in smaller ones down to single rows, which
-- are written to penstock_refused, `allowed` of them at most. Errors whose code begins as one of `never` are no row's.
-- Returns the number of rows that came out.
CREATE FUNCTION pg_temp.penstock_transform_apart(ranged text, names text, last_row bigint, allowed bigint, never text)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog AS $function$
DECLARE
    -- First rows and lengths of ranges that are still to be done, the next one at the end.
    from_row bigint[] := ARRAY[]::bigint[];
    lengths bigint[] := ARRAY[]::bigint[];
    start bigint := 1;
    lo bigint;
    length bigint;
    n_out bigint := 0;
    n_found bigint := 0;
    code text;
    said text;
    in_column text;
    in_constraint text;
    in_table text;
    context text;
    word text;
    of_function boolean;
BEGIN
    WHILE start <= last_row OR cardinality(from_row) > 0 LOOP
        IF cardinality(from_row) = 0 THEN
            from_row := ARRAY[start];
            lengths := ARRAY[4096::bigint];
            start := start + 4096;
        END IF;
        lo := from_row[cardinality(from_row)];
        length := lengths[cardinality(lengths)];
        from_row := from_row[1:cardinality(from_row) - 1];
        lengths := lengths[1:cardinality(lengths) - 1];
        BEGIN
            n_out := n_out + pg_temp.penstock_transform(ranged, names, lo, lo + length - 1);
        EXCEPTION WHEN OTHERS OR ASSERT_FAILURE THEN
            GET STACKED DIAGNOSTICS
                code = RETURNED_SQLSTATE, said = MESSAGE_TEXT, in_column = COLUMN_NAME, in_constraint = CONSTRAINT_NAME,
                in_table = TABLE_NAME, context = PG_EXCEPTION_CONTEXT;
            -- As in may_be_of_a_row; anything else is not the row's fault. A line before the statement's own: out of a
            -- function.
            of_function := strpos(left(context, strpos(context, ranged)), chr(10)) > 0;
            IF code ~ never OR NOT of_function AND code ~ '^({of_server})' THEN
                RAISE;
            END IF;
            IF length > 1 THEN
                FOR part IN REVERSE 15..0 LOOP
                    from_row := from_row || (lo + part * length / 16);
                    lengths := lengths || (length / 16);
                END LOOP;
                CONTINUE;
            END IF;
            IF n_found = 0 THEN
                -- What fails without a row as well is the statement's fault; this raises it.
                PERFORM pg_temp.penstock_transform(ranged, names, 1, 0);
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
        END;
    END LOOP;
    RETURN n_out;
END
$function$;
