-- $1 queue URLs, $2 from, $3 to, $4 limit. What was finished, and what it took in its slot.
-- A version seen again is a look at the ledger, whatever its import once took.
SELECT finished_at,
       CASE WHEN reason = 'already_imported' THEN 0.01
            ELSE greatest(duration_seconds, 0.001) END AS duration_secs,
       state <> 'failed' AS ok
FROM penstock.object
WHERE id IN (SELECT f.object_id FROM penstock.finished f WHERE f.at > $2 AND f.at <= $3)
  AND finished_at > $2
  AND finished_at <= $3
  AND queue_url = ANY ($1)
  AND (duration_seconds IS NOT NULL OR reason = 'already_imported')
ORDER BY finished_at
LIMIT $4
