-- What was finished longer ago than any scaler looks back: twice its longest interval.
-- Workers do not wait for each other here; more than one forgets at once is left to the next heartbeat.
DELETE FROM penstock.finished
WHERE ctid = ANY (ARRAY(
    SELECT ctid
    FROM penstock.finished
    WHERE at < clock_timestamp() - interval '2 hours'
    ORDER BY at
    LIMIT 20000
    FOR UPDATE SKIP LOCKED))
