-- $1 name, $2 target, $3 events, $4 datasets, $5 at most so many in $6 seconds.
INSERT INTO penstock.notification AS known (name, target, events, datasets, at_most, at_most_secs)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO UPDATE
SET target = excluded.target, events = excluded.events, datasets = excluded.datasets, at_most = excluded.at_most,
    at_most_secs = excluded.at_most_secs, registered_at = now()
WHERE (known.target, known.events, known.datasets, known.at_most, known.at_most_secs)
    IS DISTINCT FROM (excluded.target, excluded.events, excluded.datasets, excluded.at_most, excluded.at_most_secs)
