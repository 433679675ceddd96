-- $1 table oid. Every live column of the table, in order.
-- `comparable`: json, xml and the geometric types have no equality that tells two values apart.
SELECT a.attname::text AS name,
       a.atttypid::bigint AS type_oid,
       a.atttypmod AS typmod,
       format_type(a.atttypid, a.atttypmod) AS type_sql,
       t.typelem::bigint AS element_oid,
       (t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1) AS is_array,
       a.attnotnull AS not_null,
       a.attgenerated::text AS generated,
       a.attidentity::text AS identity,
       pg_get_expr(d.adbin, d.adrelid) AS default_sql,
       cn.nspname::text AS collation_schema,
       c.collname::text AS collation_name,
       NOT (coalesce(nullif(base.typelem, 0), base.oid) IN (114, 142) OR base.typcategory = 'G'
            OR coalesce(element.typcategory = 'G', false)) AS comparable
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_type base ON base.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
LEFT JOIN pg_catalog.pg_type element ON element.oid = base.typelem AND base.typcategory = 'A'
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation AND a.attcollation <> t.typcollation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
