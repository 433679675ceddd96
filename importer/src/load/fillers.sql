-- $1 schema and $2 name of an awaited relation; datasets in the order of the configuration: $3 their names, and $4 their
-- tables, NULL where there is none.
-- The datasets that fill it: their table is the relation, a part of it, a table under it where it is a view, or what one
-- of these is a partition of. Of what is not there it cannot be told, and a look too many does no harm.
WITH RECURSIVE looked_up (oid) AS (
    SELECT c.oid
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2
UNION
    SELECT below.oid
    FROM looked_up
    CROSS JOIN LATERAL (
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = looked_up.oid
        UNION ALL
        SELECT d.refobjid
        FROM pg_catalog.pg_class v
        JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.oid
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
                                   AND d.refclassid = 'pg_catalog.pg_class'::regclass
        WHERE v.oid = looked_up.oid AND v.relkind = 'v'
    ) AS below (oid)
), written_to (oid) AS (
    SELECT oid::bigint FROM looked_up
    UNION
    SELECT above.relid::oid::bigint FROM looked_up CROSS JOIN LATERAL pg_partition_ancestors(looked_up.oid) AS above (relid)
)
SELECT coalesce(array_agg(f.dataset ORDER BY f.place), '{}')
FROM unnest($3::text[], $4::bigint[]) WITH ORDINALITY AS f (dataset, oid, place)
WHERE f.oid IS NULL
   OR f.oid IN (SELECT oid FROM written_to)
   OR NOT EXISTS (SELECT FROM looked_up)
