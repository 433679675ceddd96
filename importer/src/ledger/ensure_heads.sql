-- $1 dataset; per object: $2 bucket, $3 key.
-- The commit does not wait for the disk, as in begin.sql.
-- OFFSET 0 keeps a lookup apart from the statement around it: each key is sought in the index. Plans of a connection
-- are kept, and one made for a ledger that is nearly empty would read all of it, also when it has grown.
-- In an order all workers keep, so that two who insert the same heads wait for each other and do not deadlock.
INSERT INTO penstock.head (dataset, bucket, key)
SELECT $1, sought.bucket, sought.key
FROM unnest($2::text[], $3::text[]) AS sought (bucket, key)
CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) relaxed
WHERE NOT EXISTS (
    SELECT FROM penstock.head h WHERE h.dataset = $1 AND h.bucket = sought.bucket AND h.key = sought.key
    OFFSET 0)
ORDER BY sought.bucket, sought.key
ON CONFLICT DO NOTHING
