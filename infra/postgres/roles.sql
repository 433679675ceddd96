-- The roles of Penstock, and what the database itself must allow them.
-- Run once as an administrator, connected to the database that Penstock loads into; running it again changes nothing:
--   psql -v ON_ERROR_STOP=1 -d warehouse -f infra/postgres/roles.sql
-- Passwords are for you to set (\password penstock_owner), or none where the server knows its users otherwise.

-- penstock_owner   owns the schema penstock; only `importer migrate` and `importer prune` run as it
-- penstock_worker  every importer, and every command of `importer` but those two
-- penstock_scaler  the scaler
-- penstock_reader  the console, which only reads
SELECT format('CREATE ROLE %I LOGIN', wanted)
FROM unnest(ARRAY ['penstock_owner', 'penstock_worker', 'penstock_scaler', 'penstock_reader']) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted)
\gexec

-- The owner creates the schema, the worker a staging table for every connection.
SELECT format('GRANT CONNECT, CREATE ON DATABASE %I TO penstock_owner', current_database()),
       format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO penstock_worker', current_database()),
       format('GRANT CONNECT ON DATABASE %I TO penstock_scaler', current_database()),
       format('GRANT CONNECT ON DATABASE %I TO penstock_reader', current_database())
\gexec

-- Whoever tried Penstock here before made its schema, which then becomes the owner's with all that is in it.
SELECT format('ALTER %s OWNER TO penstock_owner', what)
FROM (SELECT 'SCHEMA penstock' AS what, nspowner AS owner FROM pg_catalog.pg_namespace WHERE nspname = 'penstock'
      UNION ALL
      SELECT format('TABLE %I.%I', nspname, relname), relowner
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
      WHERE nspname = 'penstock' AND relkind IN ('r', 'v')
      UNION ALL
      SELECT format('ROUTINE %s', p.oid::regprocedure), proowner
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = pronamespace
      WHERE nspname = 'penstock') AS its
WHERE owner <> 'penstock_owner'::regrole
\gexec

-- A message is deleted once its rows are committed, so a commit has to be one, whatever the server's default.
ALTER ROLE penstock_worker SET synchronous_commit = on;

-- What holds the pool back when importers wait for locks: the scaler has to see what others' sessions wait for. And what
-- the console names as the lock that importers wait for. Without it both count connections only.
DO $$
BEGIN
    GRANT pg_read_all_stats TO penstock_scaler, penstock_reader;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'pg_read_all_stats is not yours to grant (%): scaler and console will not see what importers wait for', SQLERRM
        USING HINT = 'Somebody who may runs: GRANT pg_read_all_stats TO penstock_scaler, penstock_reader;';
END
$$;
