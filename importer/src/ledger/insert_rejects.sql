-- $1 object, $8 how payloads are written; the arrays run in step: row number, class, column, message, payload,
-- payload's true length, the archive's member.
INSERT INTO penstock.reject (object_id, row_number, class, column_name, message, payload, payload_length, archive_member, payload_form)
SELECT $1, r.*, $8 FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $9::text[]) r
