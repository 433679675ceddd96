-- $1 object, $2 version id, $3 etag, $4 size of the version it is of, as the store says.
UPDATE penstock.object o
SET version_id = $2,
    etag = $3,
    size = $4
WHERE o.id = $1
  AND (o.imported_at IS NULL OR o.version_id = $2)
  AND NOT EXISTS (
      SELECT
      FROM penstock.object other
      WHERE other.head_id = o.head_id
        AND other.id <> o.id
        AND other.is_delete = o.is_delete
        AND coalesce(other.version_id, '') = coalesce($2, '')
        AND coalesce(other.etag, '') = coalesce($3, '')
        AND coalesce(other.size, -1) = coalesce($4::bigint, -1))
