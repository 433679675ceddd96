-- Placeholders: {table} oid, {key} array of key columns. The columns in the order of the unique index they are the key of;
-- no row without one. ON CONFLICT takes no other index, and rows that are copied or updated meet no other: whole,
-- ready, checked at once, on exactly these columns. It knows nothing of rows in inheritance children.
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
    WHERE i.indrelid = {table}::oid
      AND i.indisunique AND NOT i.indisexclusion AND i.indimmediate AND i.indisvalid AND i.indisready AND i.indislive
      AND i.indpred IS NULL AND i.indexprs IS NULL
      AND NOT EXISTS (SELECT
                      FROM pg_catalog.pg_inherits
                      JOIN pg_catalog.pg_class c ON c.oid = inhparent
                      WHERE inhparent = i.indrelid AND c.relkind = 'r')
) indexes
WHERE names @> {key}::text[] AND names <@ {key}::text[]
ORDER BY indisprimary DESC, indexrelid
LIMIT 1
