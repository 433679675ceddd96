-- $1 pool, $2 since, $3 until, $4 limit: the newest ones that fit, oldest first.
WITH newest AS (
    SELECT id, pool, at, desired, reason, explain, inputs, applied, outcome
    FROM penstock.decisions
    WHERE ($1::text IS NULL OR pool = $1)
      AND ($2::timestamptz IS NULL OR at >= $2)
      AND ($3::timestamptz IS NULL OR at <= $3)
    ORDER BY at DESC, id DESC
    LIMIT $4
)
SELECT * FROM newest ORDER BY at, id
