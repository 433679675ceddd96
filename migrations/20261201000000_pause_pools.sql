-- A pool held at a size by hand (`scaler pause`), until a time; NULL where none is.
-- Without defaults and checked on a row a pool: the table is locked for a moment only.
ALTER TABLE penstock.pool_state
    ADD COLUMN pause_size  integer CHECK (pause_size >= 0),
    ADD COLUMN pause_until timestamptz,
    ADD COLUMN paused_by   text,
    ADD CHECK ((pause_size IS NULL) = (pause_until IS NULL));
