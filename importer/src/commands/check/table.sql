-- $1 table oid.
-- `searching`: trigger functions that look for names by the search_path of whoever writes.
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
       pg_has_role((SELECT relowner FROM pg_catalog.pg_class WHERE oid = $1::oid), 'USAGE') AS may_alter,
       ARRAY(SELECT DISTINCT p.oid::regprocedure::text
        FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
        JOIN pg_catalog.pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('c', 'internal')
        WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
          AND (t.tgrelid = $1::oid OR t.tgrelid IN (SELECT relid FROM pg_partition_tree($1::oid)))
          AND NOT EXISTS (SELECT FROM unnest(p.proconfig) setting WHERE starts_with(setting, 'search_path='))
        ORDER BY 1
       ) AS searching
