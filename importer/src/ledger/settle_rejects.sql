-- $1 object, $2 ids of the rejects that loaded, $3 how many rows of theirs stand in the table, $8 how many of them a
-- command or a transform dropped, $9 how many rows became of them;
-- in step: $4 ids of those that still do not fit, $5 class, $6 column, $7 message.
-- What loaded is resolved, not deleted.
WITH resolved AS (
    UPDATE penstock.reject SET resolved_at = now()
    WHERE object_id = $1 AND resolved_at IS NULL AND id = ANY ($2::bigint[])
),
-- What still waits says what is in its way now.
refused AS (
    UPDATE penstock.reject r
    SET class = n.class, column_name = n.column_name, message = n.message
    FROM unnest($4::bigint[], $5::text[], $6::text[], $7::text[]) n (id, class, column_name, message)
    WHERE r.object_id = $1 AND r.resolved_at IS NULL AND r.id = n.id
),
-- Others may wait for what loaded.
asked AS (
    INSERT INTO penstock.recheck_item (lookup)
    SELECT DISTINCT a.lookup
    FROM penstock.object o
    JOIN penstock.head h ON h.id = o.head_id
    JOIN penstock.awaited a ON h.dataset = ANY (a.fillers)
    WHERE o.id = $1
)
UPDATE penstock.object
SET rows_rejected = rows_rejected - cardinality($2::bigint[]),
    rows_written = rows_written + $3::bigint,
    rows_merged = rows_merged + $9::bigint - $3::bigint,
    rows_filtered = rows_filtered + $8::bigint,
    rows_added = coalesce(rows_added, 0) + $9::bigint - (cardinality($2::bigint[]) - $8::bigint)
WHERE id = $1
