-- $1 dataset, $2 key and $3 value of the tag that its objects get.
INSERT INTO penstock.tagging AS known (dataset, key, value)
VALUES ($1, $2, $3)
ON CONFLICT (dataset) DO UPDATE SET key = excluded.key, value = excluded.value, registered_at = now()
WHERE (known.key, known.value) <> (excluded.key, excluded.value)
