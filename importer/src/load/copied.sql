-- The columns of table $3 that a condition is about; NULL where COPY is not to judge it. $1 and $2: the condition over that
-- table as a view, read by the transform's search_path and by the session's.
WITH tree (relation, oid, action) AS (
    -- But for the view's own number, and where in the text something stood.
    SELECT r.ev_class, r.oid, regexp_replace(r.ev_action::text, ':(location|stmt_location|stmt_len) -?\d+|:relid ' || r.ev_class::oid || ' ', '', 'g')
    FROM pg_rewrite r
)
SELECT CASE WHEN
    -- Both call the same things,
    transform.action = session.action
    -- all of them built in, for COPY is not read-only (pg_depend leaves out what is),
    AND NOT EXISTS (
        SELECT FROM pg_depend d
        WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = session.oid AND d.refclassid <> 'pg_class'::regclass
    )
    -- and about nothing but columns.
    AND session.action !~ ':hasSubLinks true|:varattno (-|0 )'
    -- WHERE needs it, where COPY itself does not.
    AND has_table_privilege($3::oid, 'SELECT')
THEN ARRAY(
    SELECT a.attname::text
    FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = session.oid
      AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $3::oid AND d.refobjsubid > 0
) END
FROM tree transform CROSS JOIN tree session
WHERE transform.relation = $1::regclass AND session.relation = $2::regclass
