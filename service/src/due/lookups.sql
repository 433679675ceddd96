-- Those of whose keys a look was asked for, the longest ago first; but not where one took too long lately.
SELECT i.lookup
FROM penstock.recheck_item i
WHERE i.at <= clock_timestamp()
  AND NOT EXISTS (SELECT
                  FROM penstock.recheck_item p
                  WHERE p.lookup = i.lookup AND p.took_too_long AND p.at > clock_timestamp())
GROUP BY i.lookup
ORDER BY min(i.at), i.lookup
