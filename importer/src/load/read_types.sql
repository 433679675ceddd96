-- $1 table oid. The types of its columns, and those they are made of: what a domain is over (`d`), what an array has
-- (`a`), and the types of a composite's attributes in their order (`c`).
WITH RECURSIVE types (oid) AS (
    SELECT a.atttypid
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT part.oid
    FROM types
    JOIN pg_catalog.pg_type t ON t.oid = types.oid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype AS oid WHERE t.typtype = 'd'
        UNION ALL
        SELECT t.typelem WHERE t.typelem <> 0 AND t.typlen = -1 AND t.typcategory = 'A'
        UNION ALL
        SELECT a.atttypid
        FROM pg_catalog.pg_attribute a
        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) part
)
SELECT t.oid::bigint AS oid,
       CASE WHEN t.typtype = 'd' THEN 'd'
            WHEN t.typtype = 'c' THEN 'c'
            WHEN t.typelem <> 0 AND t.typlen = -1 AND t.typcategory = 'A' THEN 'a'
            ELSE 'b' END AS kind,
       CASE WHEN t.typtype = 'd' THEN ARRAY[t.typbasetype::bigint]
            WHEN t.typtype = 'c' THEN ARRAY(
                SELECT a.atttypid::bigint
                FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                ORDER BY a.attnum)
            ELSE ARRAY[t.typelem::bigint] END AS parts
FROM types
JOIN pg_catalog.pg_type t ON t.oid = types.oid
