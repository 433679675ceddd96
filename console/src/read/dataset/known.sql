-- $1 dataset. Whether anything is known of it. No index has all datasets: those that are old and have had no object from a
-- queue are found among the last objects, or as one of the most common.
SELECT EXISTS (SELECT FROM penstock.dataset_minute WHERE dataset = $1)
    OR EXISTS (SELECT FROM penstock.problem WHERE kind = 'failed' AND dataset = $1)
    OR EXISTS (SELECT FROM penstock.problem WHERE kind = 'rejected' AND dataset = $1)
    OR $1 IN (SELECT h.dataset FROM (SELECT h.dataset FROM penstock.head h ORDER BY h.id DESC LIMIT 2000) h)
    OR EXISTS (SELECT FROM pg_stats s
               WHERE s.schemaname = 'penstock' AND s.tablename = 'head' AND s.attname = 'dataset'
                 AND $1 = ANY (s.most_common_vals::text::text[]))
