-- no-transaction
-- Finds keys by how they begin, whatever the database's collation. Keys do not change, so an update of a head stays on
-- its page.
CREATE INDEX CONCURRENTLY IF NOT EXISTS head_prefix ON penstock.head (bucket text_pattern_ops, key text_pattern_ops);
