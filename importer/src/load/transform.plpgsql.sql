-- Placeholders: {class} a word for the reject of an error, from code, in_constraint and in_table.
-- What a session needs to run transforms. Both functions run read-only, so that nothing a fragment calls can write to
-- a table that lasts or to a sequence; the staging tables are temporary. `names` is the search_path fragments see.
CREATE TEMP TABLE penstock_refused (penstock_row bigint, class text, column_name text, message text)
    ON COMMIT DELETE ROWS;

-- Runs a whole transform.
CREATE FUNCTION pg_temp.penstock_transform(whole text, names text) RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog SET transaction_read_only = on AS $function$
DECLARE
    n_rows bigint;
BEGIN
    PERFORM set_config('search_path', names, true);
    EXECUTE whole;
    GET DIAGNOSTICS n_rows = ROW_COUNT;
    RETURN n_rows;
END
$function$;

-- Runs a transform of rows $1 to $2 in ranges, and those that are refused in smaller ones down to single rows, which
-- are written to penstock_refused, `allowed` of them at most. Returns the number of rows that came out.
CREATE FUNCTION pg_temp.penstock_transform_apart(ranged text, names text, last_row bigint, allowed bigint)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog SET transaction_read_only = on AS $function$
DECLARE
    -- First rows and lengths of ranges that are still to be done, the next one at the end.
    from_row bigint[] := ARRAY[]::bigint[];
    lengths bigint[] := ARRAY[]::bigint[];
    start bigint := 1;
    lo bigint;
    length bigint;
    n_rows bigint;
    n_out bigint := 0;
    n_found bigint := 0;
    code text;
    said text;
    in_column text;
    in_constraint text;
    in_table text;
    word text;
BEGIN
    PERFORM set_config('search_path', names, true);
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
            EXECUTE ranged USING lo, lo + length - 1;
            GET DIAGNOSTICS n_rows = ROW_COUNT;
            n_out := n_out + n_rows;
        EXCEPTION WHEN OTHERS OR ASSERT_FAILURE THEN
            GET STACKED DIAGNOSTICS
                code = RETURNED_SQLSTATE, said = MESSAGE_TEXT, in_column = COLUMN_NAME, in_constraint = CONSTRAINT_NAME,
                in_table = TABLE_NAME;
            -- As in blames_a_row; anything else is not the row's fault.
            IF NOT (left(code, 2) IN ('09', '20', '21', '22', '23', '27', '2F', '38', '39', '44', '45', '54', 'P0')
                    OR code = 'XX000'
                    OR code ~ '^[5-9I-Z]' AND left(code, 2) NOT IN ('53', '55', '57', '58', '72', 'XX')) THEN
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
                EXECUTE ranged USING 1::bigint, 0::bigint;
            END IF;
            n_found := n_found + 1;
            word := {class};
            IF n_found > allowed THEN
                -- No message of the server's here: it may quote the row's values.
                RAISE EXCEPTION USING ERRCODE = 'PN001', MESSAGE = format(
                    'the transform refuses more rows than max_rejects allows, or all of them; the latest found is row %s (%s)',
                    lo, word);
            END IF;
            INSERT INTO pg_temp.penstock_refused VALUES (lo, word, nullif(in_column, ''), said);
        END;
    END LOOP;
    RETURN n_out;
END
$function$;
