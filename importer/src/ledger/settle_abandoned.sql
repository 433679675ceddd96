-- Entries nobody works on any more: the worker has gone from penstock.workers, an hour after its last heartbeat, and
-- has no session. They wait for their message; SQS keeps one for 14 days at most, and then nobody will bring it.
-- The application name as in end_stopped_backends.sql.
UPDATE penstock.object o
SET state = CASE WHEN o.started_at < clock_timestamp() - interval '15 days' THEN 'failed' ELSE 'retrying' END,
    reason = 'abandoned',
    error = coalesce(o.error, 'its worker ended before it did'),
    finished_at = CASE WHEN o.started_at < clock_timestamp() - interval '15 days'
                       THEN clock_timestamp() ELSE o.finished_at END
WHERE o.id IN (
    SELECT waiting.id
    FROM penstock.unfinished
    JOIN penstock.object waiting ON waiting.id = unfinished.object_id
    WHERE waiting.started_at < clock_timestamp() - interval '1 hour'
      AND (waiting.state = 'importing'
           OR waiting.state = 'retrying' AND waiting.started_at < clock_timestamp() - interval '15 days')
      AND NOT EXISTS (SELECT FROM penstock.workers w WHERE w.id = waiting.worker)
      AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_stat_activity a
          WHERE a.application_name = left('penstock importer ' || waiting.worker, 63)
            AND a.datname = current_database())
    LIMIT 1000
    FOR UPDATE OF waiting SKIP LOCKED)
