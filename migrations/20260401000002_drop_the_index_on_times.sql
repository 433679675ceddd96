-- no-transaction
-- penstock.finished has taken its place. A scaler of the release before this one reads the whole ledger until it is
-- replaced.
DROP INDEX CONCURRENTLY IF EXISTS penstock.object_finished_at;
