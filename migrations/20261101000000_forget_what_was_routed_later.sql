-- Forgets the problems of versions that a newer one of their key has taken the place of, and of keys that no dataset took
-- at first and one has imported since.
CREATE OR REPLACE FUNCTION penstock.forget_mended() RETURNS void LANGUAGE sql AS $$
    DELETE FROM penstock.problem p
    WHERE p.ctid = ANY (ARRAY(
        SELECT old.ctid
        FROM (SELECT DISTINCT o.head_id, o.id
              FROM penstock.finished f
              JOIN penstock.object o ON o.id = f.object_id
              WHERE f.at > clock_timestamp() - interval '20 seconds' AND o.state = 'imported' AND o.error IS NULL
              LIMIT 20000) done
        JOIN penstock.head h ON h.id = done.head_id AND h.object_id = done.id
        LEFT JOIN penstock.head unrouted ON (unrouted.bucket, unrouted.key, unrouted.dataset) = (h.bucket, h.key, '')
        JOIN penstock.problem old ON old.head_id = ANY (ARRAY [done.head_id, unrouted.id]) AND old.object_id <> done.id
        WHERE EXISTS (SELECT FROM penstock.problem)
        FOR UPDATE OF old SKIP LOCKED
    ))
$$;
