-- no-transaction
-- penstock.unfinished has taken its place. Nobody waits for this; it waits for those who may still use the index.
DROP INDEX CONCURRENTLY IF EXISTS penstock.object_unfinished;
