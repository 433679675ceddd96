-- $1 table oid.
SELECT EXISTS (
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
