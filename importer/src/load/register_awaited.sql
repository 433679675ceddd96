-- $1 dataset, $2 field, $3 column as configured, $4 its schema, $5 its table, $6 its name, $7 the datasets that fill the
-- table; $8 no others that are known do.
INSERT INTO penstock.awaited AS known (dataset, field, lookup, schema_name, relation, column_name, fillers)
VALUES ($1, $2, $3, quote_ident($4), quote_ident($4) || '.' || quote_ident($5), quote_ident($6), $7)
ON CONFLICT (dataset, field, lookup) DO UPDATE
SET fillers = CASE WHEN $8 THEN excluded.fillers
                   ELSE known.fillers || ARRAY(SELECT unnest(excluded.fillers) EXCEPT SELECT unnest(known.fillers)) END,
    registered_at = now()
WHERE NOT known.fillers @> excluded.fillers
   OR $8 AND known.fillers <> excluded.fillers
