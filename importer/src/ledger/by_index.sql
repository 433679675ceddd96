-- For the statements that follow in the transaction: rows are sought in an index, one by one. The plan of an UPDATE with
-- a FROM of its own is kept by the connection; one made for a ledger that is nearly empty would read all of it,
-- also when it has grown.
SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin']) AS name
