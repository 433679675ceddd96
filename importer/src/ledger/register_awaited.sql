-- $1 dataset, $2 field, $3 column as configured, $4 its schema, $5 its table, $6 its name, $7 the datasets that fill the table.
INSERT INTO penstock.awaited AS known (dataset, field, lookup, schema_name, relation, column_name, fillers)
VALUES ($1, $2, $3, quote_ident($4), quote_ident($4) || '.' || quote_ident($5), quote_ident($6), $7)
ON CONFLICT (dataset, field, lookup) DO UPDATE SET fillers = excluded.fillers, registered_at = now()
WHERE known.fillers <> excluded.fillers
