-- Whom the console of the compose stack signs in as: a reader of the ledger, and one that may only read what reports show.
-- Elsewhere infra/postgres has the reader's rights, more narrowly, and passwords are better.
CREATE ROLE penstock_reader LOGIN PASSWORD 'penstock';
GRANT pg_read_all_stats TO penstock_reader;
CREATE SCHEMA penstock;
GRANT USAGE ON SCHEMA penstock TO penstock_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA penstock GRANT SELECT ON TABLES TO penstock_reader;

CREATE ROLE reports LOGIN PASSWORD 'penstock';
GRANT SELECT ON public.telemetry TO reports;
