-- Placeholders: {staging} table, {statement} literal of the merge of rows $2 to $3 for object $1, {object_id},
-- {allowed} rejects, {class} the word for a reject, {never} and {of_server} codes or their beginnings, with | between,
-- {row} what is kept of a row of {kept}, as jsonb. Ranges are taken in row order and stay merged when they go through,
-- so of two rows that exclude each other the first one stands.
-- The staging table has the target's columns, whatever they are called.
#variable_conflict use_variable
DECLARE
    merge_range constant text := {statement};
    from_row bigint[];
    to_row bigint[];
    lo bigint;
    hi bigint;
    middle bigint;
    n_rows bigint;
    n_found bigint := 0;
    n_written bigint := 0;
    code text;
    said text;
    in_column text;
    in_constraint text;
    in_table text;
    context text;
    word text;
    of_function boolean;
BEGIN
    SELECT ARRAY[min(penstock_row)], ARRAY[max(penstock_row)] INTO from_row, to_row FROM {staging};
    WHILE cardinality(from_row) > 0 LOOP
        lo := from_row[cardinality(from_row)];
        hi := to_row[cardinality(to_row)];
        from_row := from_row[1:cardinality(from_row) - 1];
        to_row := to_row[1:cardinality(to_row) - 1];
        BEGIN
            EXECUTE merge_range USING {object_id}::bigint, lo, hi;
            GET DIAGNOSTICS n_rows = ROW_COUNT;
            n_written := n_written + n_rows;
        EXCEPTION WHEN OTHERS OR ASSERT_FAILURE THEN
            GET STACKED DIAGNOSTICS
                code = RETURNED_SQLSTATE, said = MESSAGE_TEXT, in_column = COLUMN_NAME, in_constraint = CONSTRAINT_NAME,
                in_table = TABLE_NAME, context = PG_EXCEPTION_CONTEXT;
            -- As in is_refusal; anything else is not the row's fault. A line before the statement's own: out of a function.
            of_function := strpos(left(context, strpos(context, merge_range)), chr(10)) > 0;
            IF code ~ '^({never})' OR NOT of_function AND code ~ '^({of_server})' THEN
                RAISE;
            END IF;
            SELECT count(*) INTO n_rows
            FROM (SELECT FROM {staging} WHERE penstock_row BETWEEN lo AND hi LIMIT 2) some_rows;
            IF lo < hi AND n_rows > 1 THEN
                middle := (lo + hi) / 2;
                from_row := from_row || ARRAY[middle + 1, lo];
                to_row := to_row || ARRAY[hi, middle];
                CONTINUE;
            END IF;
            IF n_found = 0 THEN
                -- What fails without a row as well is the statement's fault; this raises it.
                EXECUTE merge_range USING {object_id}::bigint, 1::bigint, 0::bigint;
            END IF;
            n_found := n_found + 1;
            word := {class};
            IF of_function AND left(code, 2) IN ('42', '3F', '0A') THEN
                word := 'trigger';
            END IF;
            IF n_found > {allowed} THEN
                -- No message of the server's here: it may quote the row's values.
                RAISE EXCEPTION USING ERRCODE = 'PN001', DETAIL = CASE WHEN of_function THEN code ELSE '' END, MESSAGE = format(
                    'Postgres refuses more rows than max_rejects allows, or all of them; the latest found is row %s (%s%s)',
                    lo, word, CASE WHEN in_constraint = '' OR in_table = '' THEN '' ELSE ', constraint ' || in_constraint END);
            END IF;
            INSERT INTO penstock.reject
                (object_id, row_number, class, column_name, message, payload, payload_length, payload_form)
            SELECT {object_id}, staged.penstock_row, word, nullif(in_column, ''), said,
                   substring(whole.bytes FOR 65536), octet_length(whole.bytes), 'columns'
            FROM {kept} staged
            CROSS JOIN LATERAL (
                SELECT convert_to(({row})::text, 'UTF8') AS bytes
            ) whole
            WHERE staged.penstock_row IN (SELECT penstock_row FROM {staging} WHERE penstock_row BETWEEN lo AND hi)
            -- One row of the object, of which there may be several.
            LIMIT 1;
            DELETE FROM {staging} WHERE penstock_row BETWEEN lo AND hi;
        END;
    END LOOP;
    PERFORM set_config('penstock.n_written', n_written::text, true), set_config('penstock.n_found', n_found::text, true);
END
