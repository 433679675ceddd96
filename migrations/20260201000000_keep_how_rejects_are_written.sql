-- What it takes to read a reject's payload again.
-- Nullable columns without defaults: the tables are locked for the moment of the change only, and the
-- release before this one goes on writing rejects, which then cannot be replayed.

-- How the payload is written: `json`, an object by field; `csv`, a record; `columns`, an object by column
-- of a row that Postgres refused. NULL: nobody said.
ALTER TABLE penstock.reject ADD COLUMN payload_form text CHECK (payload_form IN ('json', 'csv', 'columns'));

-- The fields of a CSV object with rejects, whose records do not name them; NULL members where it has no header.
ALTER TABLE penstock.object ADD COLUMN csv_fields text[];

-- Rejects that wait for their second chance.
CREATE INDEX reject_waiting ON penstock.reject (object_id) WHERE resolved_at IS NULL;
