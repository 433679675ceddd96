-- $1 datasets of the configuration that follow none; all of its awaited columns: $2 dataset, $3 field, $4 column;
-- $5 its datasets, $6 those of them whose loaded objects get no tag.
-- A dataset that follows none stays registered, for what was due to it before is still sent. So does a column that is not
-- awaited any more, which nothing fills then: waits for it end with their objects' next runs.
WITH awaited AS (
    UPDATE penstock.awaited a
    SET fillers = '{}', registered_at = now()
    WHERE a.dataset = ANY ($5)
      AND a.fillers <> '{}'
      AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[], $4::text[]) AS kept (dataset, field, lookup)
                      WHERE (kept.dataset, kept.field, kept.lookup) = (a.dataset, a.field, a.lookup))
), tags AS (
    DELETE FROM penstock.tagging WHERE dataset = ANY ($6)
)
UPDATE penstock.step SET after = '{}', registered_at = now() WHERE dataset = ANY ($1) AND after <> '{}'
