-- $1 ended before, $2 datasets whose imported versions may go once they no longer stand, $3 batch.
-- Their rejects go with them (ON DELETE CASCADE). A head that points at an entry keeps it: the foreign key would, too.
DELETE FROM penstock.object
WHERE id IN (
    SELECT o.id
    FROM penstock.object o
    JOIN penstock.head h ON h.id = o.head_id
    WHERE o.finished_at < $1
      AND o.state NOT IN ('importing', 'retrying')
      AND h.object_id IS DISTINCT FROM o.id
      AND (o.imported_at IS NULL OR h.dataset = ANY ($2))
    LIMIT $3)
  -- Asked again of the row as it is when its lock is granted: an import may have begun meanwhile.
  AND finished_at < $1
  AND state NOT IN ('importing', 'retrying')
