-- $1 ended before, $2 datasets whose imported versions may go once they no longer stand, $3 last entry looked at,
-- $4 how many to look at.
-- Their rejects go with them (ON DELETE CASCADE). An entry that a head names stays: heads are locked against being
-- moved, and those that are being written are left for another time.
WITH looked AS MATERIALIZED (
    SELECT o.id, o.head_id FROM penstock.object o WHERE o.id > $3 ORDER BY o.id LIMIT $4
), old AS MATERIALIZED (
    SELECT o.id
    FROM looked
    JOIN penstock.object o ON o.id = looked.id
    JOIN penstock.head h ON h.id = looked.head_id
    WHERE CASE WHEN o.state IN ('importing', 'retrying')
               THEN greatest(o.started_at, o.finished_at, o.first_seen_at) < $1
               ELSE o.finished_at < $1 END
      AND h.object_id IS DISTINCT FROM o.id
      AND (o.imported_at IS NULL OR h.dataset = ANY ($2))
    FOR SHARE OF h SKIP LOCKED
), gone AS (
    DELETE FROM penstock.object o
    USING old
    WHERE o.id = old.id
      -- Asked again of the row as it is when its lock is granted: an import may have begun meanwhile.
      AND CASE WHEN o.state IN ('importing', 'retrying')
               THEN greatest(o.started_at, o.finished_at, o.first_seen_at) < $1
               ELSE o.finished_at < $1 END
    RETURNING o.id
)
SELECT (SELECT max(id) FROM looked) AS last_id, (SELECT count(*) FROM gone) AS n_done
