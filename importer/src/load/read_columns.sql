-- $1 table oid. Every live column of the table, in order.
-- `base_oid`: the type below any domains, and `cast_sql` what a text is cast to: its base with a modifier only where a
-- cast rounds as an assignment does (numeric, times, interval). A cast to a length would cut.
-- `comparable`: has an order of its own, and so an equality that tells two values apart.
-- `*_operator`: of the default order of what is below any domains, where they are not pg_catalog's: an extension's, or a
-- user's. Arrays, enums, ranges and composite types have those of pg_catalog.
SELECT a.attname::text AS name,
       a.atttypid::bigint AS type_oid,
       a.atttypmod AS typmod,
       format_type(a.atttypid, a.atttypmod) AS type_sql,
       base.oid::bigint AS base_oid,
       format_type(base.oid, CASE WHEN element.oid IN (1083, 1114, 1184, 1186, 1266, 1700) THEN below.typmod ELSE -1 END)
           AS cast_sql,
       t.typelem::bigint AS element_oid,
       (t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1) AS is_array,
       a.attnotnull AS not_null,
       a.attgenerated::text AS generated,
       a.attidentity::text AS identity,
       -- Of a view, one that is a column of the table behind it.
       pg_column_is_updatable(a.attrelid, a.attnum, false) AS is_written_through,
       pg_get_expr(d.adbin, d.adrelid) AS default_sql,
       cn.nspname::text AS collation_schema,
       c.collname::text AS collation_name,
       -- varchar has the order of text, cidr that of inet.
       (coalesce(inner_element.typtype, element.typtype) IN ('e', 'r', 'm')
            OR coalesce(inner_element.oid, element.oid) IN (650, 1043)
            OR EXISTS (SELECT
                       FROM pg_catalog.pg_opclass o
                       JOIN pg_catalog.pg_am am ON am.oid = o.opcmethod
                       WHERE am.amname = 'btree' AND o.opcdefault
                         AND o.opcintype = coalesce(inner_element.oid, element.oid))) AS comparable,
       foreign_order.schema AS operator_schema,
       foreign_order.equal AS equal_operator,
       foreign_order.less AS less_operator
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
CROSS JOIN LATERAL (
    WITH RECURSIVE types (oid, typmod, depth) AS (
        SELECT a.atttypid, a.atttypmod, 0
        UNION ALL
        SELECT d.typbasetype, CASE WHEN d.typtypmod = -1 THEN types.typmod ELSE d.typtypmod END, depth + 1
        FROM types
        JOIN pg_catalog.pg_type d ON d.oid = types.oid AND d.typtype = 'd'
    )
    SELECT types.oid, types.typmod FROM types ORDER BY depth DESC LIMIT 1
) below
JOIN pg_catalog.pg_type base ON base.oid = below.oid
-- What an array is of, else the type itself; and what that is below a domain.
JOIN pg_catalog.pg_type element ON element.oid = CASE WHEN base.typcategory = 'A' AND base.typelem <> 0 AND base.typlen = -1
                                                      THEN base.typelem ELSE base.oid END
LEFT JOIN pg_catalog.pg_type inner_element ON element.typtype = 'd' AND inner_element.oid = element.typbasetype
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation AND a.attcollation <> t.typcollation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace
-- amopstrategy: 1 less, 3 equal.
LEFT JOIN LATERAL (
    SELECT en.nspname::text AS schema, equal.oprname::text AS equal, less.oprname::text AS less
    FROM pg_catalog.pg_opclass o
    JOIN pg_catalog.pg_am am ON am.oid = o.opcmethod AND am.amname = 'btree'
    JOIN pg_catalog.pg_amop e ON e.amopfamily = o.opcfamily AND e.amopstrategy = 3
                             AND e.amoplefttype = o.opcintype AND e.amoprighttype = o.opcintype
    JOIN pg_catalog.pg_amop l ON l.amopfamily = o.opcfamily AND l.amopstrategy = 1
                             AND l.amoplefttype = o.opcintype AND l.amoprighttype = o.opcintype
    JOIN pg_catalog.pg_operator equal ON equal.oid = e.amopopr
    JOIN pg_catalog.pg_operator less ON less.oid = l.amopopr AND less.oprnamespace = equal.oprnamespace
    JOIN pg_catalog.pg_namespace en ON en.oid = equal.oprnamespace AND en.nspname <> 'pg_catalog'
    WHERE o.opcdefault AND o.opcintype = base.oid
) foreign_order ON true
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
