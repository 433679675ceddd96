-- $1 table oid.
SELECT c.oid::bigint AS oid,
       n.nspname::text AS schema,
       c.relname::text AS name,
       c.relkind::text AS kind,
       row_security_active(c.oid) AS row_security,
       c.relhasrules AS has_rules,
       NOT c.relhasrules
           AND NOT (c.relhassubclass AND c.relkind = 'r')
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
           AND NOT drops.may
           AS may_skip_equal,
       drops.may AS may_drop_rows,
       -- Rows can be inserted through a view where Postgres itself puts them into the table behind it, and nothing that
       -- somebody wrote stands in between.
       -- 8 is INSERT; 64 in tgtype is INSTEAD OF.
       c.relkind = 'v' AND pg_relation_is_updatable(c.oid, false) & 8 = 8
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN')
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgtype & 64 = 64)
           AS inserts_through,
       -- A row that it takes and does not show is one that a later run would not find.
       c.relkind = 'v' AND 'check_option=cascaded' <> ALL (coalesce(c.reloptions, '{}'))
           AND EXISTS (SELECT
                       FROM pg_catalog.pg_rewrite r
                       LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                            AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid
                       LEFT JOIN pg_catalog.pg_class behind ON behind.oid = d.refobjid
                       WHERE r.ev_class = c.oid AND (behind.relkind = 'v' OR r.ev_action::text !~ ':quals <>'))
           AS hides_rows,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = c.oid) AS has_children,
       -- SQL_ASCII takes bytes as they are.
       current_setting('server_encoding') IN ('UTF8', 'SQL_ASCII') AS takes_any_text
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
-- tgtype: 1 for each row, 2 before. What is behind a view is not looked at.
CROSS JOIN LATERAL (
    SELECT c.relkind = 'v' OR EXISTS (SELECT
                   FROM pg_catalog.pg_trigger t
                   WHERE NOT t.tgisinternal AND t.tgtype & 3 = 3
                     AND (t.tgrelid = c.oid OR t.tgrelid IN (SELECT relid FROM pg_partition_tree(c.oid)))) AS may
) drops
WHERE c.oid = $1::oid
