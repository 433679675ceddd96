-- $1 buckets, $2 keys. As penstock.forget_mended(), which goes by what came through a queue.
DELETE FROM penstock.problem
WHERE ctid = ANY (ARRAY(
    SELECT old.ctid
    FROM unnest($1::text[], $2::text[]) AS loaded (bucket, key)
    JOIN penstock.head h ON h.bucket = loaded.bucket AND h.key = loaded.key
    JOIN penstock.object o ON o.id = h.object_id AND o.state = 'imported' AND o.error IS NULL
    JOIN penstock.problem old ON old.head_id = h.id AND old.object_id <> o.id
    WHERE EXISTS (SELECT FROM penstock.problem)
    FOR UPDATE OF old SKIP LOCKED))
