-- What the parse tree of a view says of it: pg_depend leaves out what is built in. Views it reads are looked into as well.
-- Of the flags the first is that of the outermost query. $1: the view.
WITH RECURSIVE tree (relation, action) AS (
    SELECT r.ev_class, r.ev_action::text FROM pg_rewrite r WHERE r.ev_class = $1::regclass AND r.ev_type = '1'
    UNION
    SELECT r.ev_class, r.ev_action::text
    FROM tree
    CROSS JOIN LATERAL regexp_matches(tree.action, ':relid (\d+)', 'g') AS named (relation)
    JOIN pg_class c ON c.oid = named.relation[1]::oid AND c.relkind = 'v'
    JOIN pg_rewrite r ON r.ev_class = c.oid AND r.ev_type = '1'
),
called (oid) AS (
    SELECT DISTINCT named.oid[1]::oid
    FROM tree CROSS JOIN LATERAL regexp_matches(tree.action, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') AS named (oid)
    UNION
    SELECT DISTINCT o.oprcode::oid
    FROM tree
    CROSS JOIN LATERAL regexp_matches(tree.action, ':opno (\d+)', 'g') AS named (oid)
    JOIN pg_operator o ON o.oid = named.oid[1]::oid
),
unsteady (name) AS (
    SELECT p.oid::regprocedure::text
    FROM called JOIN pg_proc p USING (oid)
    -- Those that are STABLE and yet differ from one transaction, or session, to the next.
    WHERE p.provolatile = 'v' OR p.oid = ANY (ARRAY[
        'now()', 'transaction_timestamp()', 'statement_timestamp()', 'age(timestamp)', 'age(timestamptz)',
        'txid_current()', 'txid_current_if_assigned()', 'txid_current_snapshot()', 'pg_current_xact_id()',
        'pg_current_xact_id_if_assigned()', 'pg_current_snapshot()', 'pg_backend_pid()', 'pg_my_temp_schema()',
        'inet_client_port()', 'pg_postmaster_start_time()', 'pg_conf_load_time()'
    ]::regprocedure[])
    UNION
    SELECT 'TABLESAMPLE' FROM tree WHERE tree.action ~ ':tablesample \{'
    UNION
    -- CURRENT_DATE, CURRENT_TIME, CURRENT_TIMESTAMP, LOCALTIME, LOCALTIMESTAMP
    SELECT 'the current date or time' FROM tree WHERE tree.action ~ 'SQLVALUEFUNCTION :op [0-8] '
)
SELECT substring(tree.action FROM ':hasAggs (\w+)') = 'true' OR substring(tree.action FROM ':hasWindowFuncs (\w+)') = 'true',
       substring(tree.action FROM ':hasTargetSRFs (\w+)') = 'true',
       tree.action ~ ':hasForUpdate true',
       ARRAY(SELECT name FROM unsteady ORDER BY name)
FROM tree
WHERE tree.relation = $1::regclass
