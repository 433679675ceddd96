-- What the worker, the scaler and the reader may do in the schema penstock.
-- Run as penstock_owner after the first `importer migrate`; running it again changes nothing:
--   psql -v ON_ERROR_STOP=1 -U penstock_owner -d warehouse -f infra/postgres/grants.sql

GRANT USAGE ON SCHEMA penstock TO penstock_worker, penstock_scaler, penstock_reader;

-- Whether the schema is current.
GRANT SELECT ON penstock._sqlx_migrations TO penstock_worker, penstock_scaler, penstock_reader;

-- The worker writes the ledger. It cannot remove an entry: only `importer prune`, as the owner, does.
GRANT SELECT, INSERT, UPDATE ON penstock.head, penstock.object TO penstock_worker;
-- A version imported again replaces its rejects; a worker that ends, or was lost for an hour, loses its row.
GRANT SELECT, INSERT, UPDATE, DELETE ON penstock.reject, penstock.workers TO penstock_worker;
GRANT SELECT ON penstock.object_status, penstock.rejects TO penstock_worker;
-- What the ledger's triggers keep beside it; heartbeats forget what was finished hours ago.
GRANT SELECT, INSERT, UPDATE, DELETE ON penstock.unfinished, penstock.finished TO penstock_worker;
-- What pages are made from: problems by the ledger's triggers, minutes by heartbeats.
GRANT SELECT, INSERT, UPDATE, DELETE ON penstock.problem, penstock.dataset_minute, penstock.rolled_up TO penstock_worker;
-- What follows commits: registered at the start, made due by the ledger's triggers, sent and forgotten.
GRANT SELECT, INSERT, UPDATE, DELETE
    ON penstock.step, penstock.notification, penstock.tagging, penstock.due_item, penstock.notification_window
    TO penstock_worker;
GRANT SELECT ON penstock.due TO penstock_worker, penstock_scaler;
-- What objects wait for, and looks for what has arrived; the scaler's look also needs SELECT on the awaited columns.
GRANT SELECT, INSERT, UPDATE, DELETE
    ON penstock.awaited, penstock.waiting_object, penstock.waiting_key, penstock.refreshed, penstock.recheck_item
    TO penstock_worker;
GRANT SELECT ON penstock.waiting TO penstock_worker, penstock_scaler;

-- The scaler reads what was finished and who is alive, and keeps its state, and its decisions for 90 days.
GRANT SELECT ON penstock.head, penstock.object, penstock.finished, penstock.workers TO penstock_scaler;
GRANT SELECT, INSERT, UPDATE ON penstock.pool_state TO penstock_scaler;
GRANT SELECT, INSERT, DELETE ON penstock.decisions TO penstock_scaler;
-- It sends what importers left.
GRANT SELECT ON penstock.step, penstock.notification TO penstock_scaler;
GRANT SELECT, INSERT, UPDATE, DELETE ON penstock.due_item, penstock.notification_window TO penstock_scaler;
GRANT SELECT ON penstock.awaited, penstock.waiting_object, penstock.waiting_key TO penstock_scaler;
GRANT SELECT, INSERT, UPDATE, DELETE ON penstock.refreshed, penstock.recheck_item TO penstock_scaler;

-- The reader sees all but what is in rows: no payloads of rejects, no pointers, no values that are waited for. Messages of
-- rejects may quote values; the console leaves those out unless it is told to show them, which also takes
--   GRANT SELECT (payload) ON penstock.reject TO penstock_reader;
GRANT SELECT ON penstock.head, penstock.object, penstock.object_status, penstock.problem, penstock.dataset_minute,
    penstock.rolled_up, penstock.unfinished, penstock.finished, penstock.workers, penstock.decisions, penstock.pool_state,
    penstock.step, penstock.notification, penstock.notification_window, penstock.tagging, penstock.awaited
    TO penstock_reader;
GRANT SELECT (id, object_id, row_number, class, column_name, message, payload_length, payload_form, created_at, resolved_at)
    ON penstock.reject TO penstock_reader;
GRANT SELECT (id, at, kind, target, dataset, event, object_id, attempts, error, created_at)
    ON penstock.due_item TO penstock_reader;
GRANT SELECT (id, lookup, at, attempts, error, created_at) ON penstock.recheck_item TO penstock_reader;
GRANT SELECT (head_id, object_id, since, until) ON penstock.waiting_object TO penstock_reader;
GRANT SELECT (head_id, awaited_id, again_at) ON penstock.waiting_key TO penstock_reader;

-- Tables that later migrations add are usable at once; this file, run again, then says it more narrowly.
ALTER DEFAULT PRIVILEGES IN SCHEMA penstock GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO penstock_worker;
ALTER DEFAULT PRIVILEGES IN SCHEMA penstock GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO penstock_scaler;
