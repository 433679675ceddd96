-- $1 table oid, $2 key columns.
-- ON CONFLICT takes an index as arbiter only when it is complete, immediate and on exactly the columns named.
SELECT EXISTS (
           SELECT
           FROM pg_catalog.pg_index i
           WHERE i.indrelid = $1::oid
             AND i.indisunique AND i.indisvalid AND i.indimmediate
             AND i.indpred IS NULL AND i.indexprs IS NULL
             AND (SELECT array_agg(a.attname::text COLLATE "C" ORDER BY a.attname::text COLLATE "C")
                  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  WHERE k.place <= i.indnkeyatts)
               = (SELECT array_agg(c COLLATE "C" ORDER BY c COLLATE "C") FROM unnest($2::text[]) AS c)
       ) AS key_is_unique,
       EXISTS (
           SELECT
           FROM pg_catalog.pg_index i
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
           WHERE i.indrelid = $1::oid AND i.indisvalid AND i.indpred IS NULL AND a.attname = 'penstock_object'
       ) AS lineage_is_indexed,
       has_table_privilege($1::oid, 'SELECT') AS may_select,
       has_table_privilege($1::oid, 'INSERT') AS may_insert,
       has_table_privilege($1::oid, 'UPDATE') AS may_update,
       has_table_privilege($1::oid, 'DELETE') AS may_delete,
       pg_has_role((SELECT relowner FROM pg_catalog.pg_class WHERE oid = $1::oid), 'USAGE') AS may_alter
