-- What this role may do in and to the schema penstock. Neither schema nor table need exist, or be usable.
WITH schema AS (
    SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'penstock'
), migrations AS (
    SELECT c.oid FROM pg_catalog.pg_class c JOIN schema ON c.relnamespace = schema.oid
    WHERE c.relname = '_sqlx_migrations'
)
SELECT current_user::text AS role,
       EXISTS (SELECT FROM schema) AS schema_exists,
       EXISTS (SELECT FROM migrations) AS ledger_exists,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schemas,
       coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM schema), false) AS may_create_tables,
       coalesce((SELECT has_schema_privilege(oid, 'USAGE') FROM schema), false) AS may_use,
       coalesce((SELECT has_table_privilege(oid, 'SELECT') FROM migrations), false) AS may_read,
       -- Only the owner may alter a table; NULL when this role is.
       (SELECT string_agg('penstock.' || c.relname, ', ' ORDER BY c.relname)
        FROM pg_catalog.pg_class c JOIN schema ON c.relnamespace = schema.oid
        WHERE c.relkind IN ('r', 'p', 'v') AND NOT pg_has_role(c.relowner, 'USAGE')) AS foreign_tables
