-- The session's search path is the login's own, so that everything is named with its schema.
SELECT
    current_user::pg_catalog.text AS name,
    r.rolsuper AS is_superuser,
    (
        SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
        FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
            AND pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
        ORDER BY n.nspname, c.relname
        LIMIT 1
    ) AS writable
FROM pg_catalog.pg_roles AS r
WHERE r.rolname = current_user
