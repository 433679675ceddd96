-- $1 ended before, $3 last entry looked at, $4 how many to look at; $2 as in prune.sql, not used.
-- Of versions that stand only that is left which the protocol, `status` and `reconcile` need: which version it is, how
-- new, when it was imported, and its row counts.
WITH looked AS MATERIALIZED (
    SELECT o.id, o.head_id FROM penstock.object o WHERE o.id > $3 AND cardinality($2::text[]) >= 0 ORDER BY o.id LIMIT $4
), shortened AS (
    UPDATE penstock.object o
    SET worker = NULL, queue_url = NULL, event_time = NULL, started_at = NULL, bytes = NULL, duration_seconds = NULL,
        technique = NULL, reason = NULL, error = NULL, forwarded_message_id = NULL,
        csv_fields = CASE WHEN EXISTS (
            SELECT FROM penstock.reject r WHERE r.object_id = o.id AND r.resolved_at IS NULL) THEN o.csv_fields END
    FROM looked
    JOIN penstock.head h ON h.id = looked.head_id AND h.object_id = looked.id
    WHERE o.id = looked.id
      AND o.state = 'imported'
      AND o.finished_at < $1
      AND o.technique IS NOT NULL
    RETURNING o.id
)
SELECT (SELECT max(id) FROM looked) AS last_id, (SELECT count(*) FROM shortened) AS n_done
