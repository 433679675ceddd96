-- $1 table oid, $2 key columns. The columns in the order of the unique index they are the key of; no row without one.
SELECT names AS key
FROM (
    SELECT i.indisprimary,
           i.indexrelid,
           ARRAY(SELECT a.attname::text
                 FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS part (attnum, place)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
                 WHERE part.place <= i.indnkeyatts
                 ORDER BY part.place) AS names
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
) indexes
WHERE names @> $2::text[] AND names <@ $2::text[]
ORDER BY indisprimary DESC, indexrelid
LIMIT 1
