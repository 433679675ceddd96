-- Rejects of text are kept as the lines they were. The lock lasts for the catalog's change alone: rows that are there
-- fulfil the wider constraint, so they are not looked at.
SET LOCAL lock_timeout = '5s';
ALTER TABLE penstock.reject
    DROP CONSTRAINT reject_payload_form_check,
    ADD CONSTRAINT reject_payload_form_check CHECK (payload_form IN ('json', 'csv', 'text', 'columns')) NOT VALID;
