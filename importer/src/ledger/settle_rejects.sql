-- $1 object, $2 numbers of the rows that loaded, $3 how many of them stand in the table;
-- in step: $4 numbers of the rows that still do not fit, $5 class, $6 column, $7 message.
-- What loaded is resolved, not deleted.
WITH resolved AS (
    UPDATE penstock.reject SET resolved_at = now()
    WHERE object_id = $1 AND resolved_at IS NULL AND row_number = ANY ($2::bigint[])
),
-- What still waits says what is in its way now.
refused AS (
    UPDATE penstock.reject r
    SET class = n.class, column_name = n.column_name, message = n.message
    FROM unnest($4::bigint[], $5::text[], $6::text[], $7::text[]) n (row_number, class, column_name, message)
    WHERE r.object_id = $1 AND r.resolved_at IS NULL AND r.row_number = n.row_number
)
UPDATE penstock.object
SET rows_rejected = rows_rejected - cardinality($2::bigint[]),
    rows_written = rows_written + $3::bigint,
    rows_merged = rows_merged + cardinality($2::bigint[]) - $3::bigint
WHERE id = $1
