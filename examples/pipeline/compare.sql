-- The tables beside the model, which the variable "model" holds: examples/pipeline/README.md.
WITH model AS (
    SELECT :'model'::jsonb AS tables
),
-- Every row of both, in one form: numbers and times as the table's columns have them.
rows (name, row, stands) AS (
    SELECT 'site', to_jsonb(t), true FROM public.site t
    UNION ALL
    SELECT 'site', to_jsonb(m), false FROM model, jsonb_populate_recordset(NULL::public.site, tables -> 'site') m
    UNION ALL
    SELECT 'account', to_jsonb(t), true FROM public.account t
    UNION ALL
    SELECT 'account', to_jsonb(m), false FROM model, jsonb_populate_recordset(NULL::public.account, tables -> 'account') m
    UNION ALL
    SELECT 'post', to_jsonb(t), true FROM public.post t
    UNION ALL
    SELECT 'post', to_jsonb(m), false FROM model, jsonb_populate_recordset(NULL::public.post, tables -> 'post') m
    UNION ALL
    SELECT 'post_line', to_jsonb(t), true FROM public.post_line t
    UNION ALL
    SELECT 'post_line', to_jsonb(m), false
    FROM model, jsonb_populate_recordset(NULL::public.post_line, tables -> 'post_line') m
    UNION ALL
    SELECT 'post_card', to_jsonb(t), true FROM public.post_card t
    UNION ALL
    SELECT 'post_card', to_jsonb(m), false
    FROM model, jsonb_populate_recordset(NULL::public.post_card, tables -> 'post_card') m
    UNION ALL
    SELECT 'post_language', to_jsonb(t), true FROM public.post_language t
    UNION ALL
    SELECT 'post_language', to_jsonb(m), false
    FROM model, jsonb_populate_recordset(NULL::public.post_language, tables -> 'post_language') m
    UNION ALL
    SELECT 'rejects', to_jsonb(t), true
    FROM (SELECT h.dataset, r.row_number, r.class, substring(h.key FROM '[^/]+$') AS file
          FROM penstock.reject r
          JOIN penstock.head h ON h.object_id = r.object_id -- of the version that stands
          WHERE r.resolved_at IS NULL AND (h.dataset ^@ 'post' OR h.dataset IN ('sites', 'accounts'))) t
    UNION ALL
    SELECT 'rejects', to_jsonb(m), false
    FROM model, jsonb_to_recordset(tables -> 'rejects') m (dataset text, row_number bigint, class text, file text)
),
counted AS (
    SELECT name,
           row - 'penstock_object' AS row,
           count(*) FILTER (WHERE stands) AS n_stand,
           count(*) FILTER (WHERE NOT stands) AS n_model
    FROM rows
    GROUP BY 1, 2
)
SELECT name AS table,
       sum(n_stand) AS rows,
       sum(n_model) AS model,
       sum(greatest(n_stand - n_model, 0)) AS too_many,
       sum(greatest(n_model - n_stand, 0)) AS missing,
       (array_agg(row::text ORDER BY row) FILTER (WHERE n_stand <> n_model))[1] AS one_of_them
FROM counted
GROUP BY name
ORDER BY name;
