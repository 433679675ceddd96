-- What the worker needs on one table it loads into. Run as the table's owner, for each table:
--   psql -v ON_ERROR_STOP=1 -d warehouse -v schema=public -v table=telemetry -f infra/postgres/table.sql
-- A column whose default is nextval() of a sequence also needs USAGE on that sequence; identity columns do not.
-- `on_new_field = "add_column"` needs more than any grant gives: the worker must be a member of the owning role.

GRANT USAGE ON SCHEMA :"schema" TO penstock_worker;
GRANT SELECT, INSERT, UPDATE ON :"schema".:"table" TO penstock_worker;

-- Only for mode = "replace", on_delete = "remove", awaits, `replay --outdated`, and a forced replay of append: -v removes_rows=1
\if :{?removes_rows}
GRANT DELETE ON :"schema".:"table" TO penstock_worker;
\endif
