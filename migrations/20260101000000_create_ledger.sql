-- The ledger of the importer and the tables the scaler shares with it.
-- Everything lives in the schema `penstock`; target tables are the user's own.

CREATE SCHEMA IF NOT EXISTS penstock;

-- One row per (dataset, bucket, key): the fence.
-- Every transaction that writes an object's rows locks this row first, so
-- writers of one key take turns, and `object_id` says whose rows stand.
-- Objects no dataset claims (skipped, unrouted) have dataset ''.
CREATE TABLE penstock.head (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset    text NOT NULL,
    bucket     text NOT NULL,
    key        text NOT NULL,
    object_id  bigint,
    UNIQUE (bucket, key, dataset)
) WITH (fillfactor = 80);

-- One row per object version and dataset: what became of it.
-- `is_delete` rows stand for a removal of the key (tombstones and ignored delete events).
CREATE TABLE penstock.object (
    id                   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    head_id              bigint NOT NULL REFERENCES penstock.head (id),
    is_delete            boolean NOT NULL DEFAULT false,
    version_id           text,
    etag                 text,
    size                 bigint,
    sequencer            text,
    last_modified        timestamptz,
    state                text NOT NULL CHECK (state IN
        ('importing', 'imported', 'retrying', 'skipped', 'superseded', 'gone', 'failed')),
    reason               text,
    attempts             integer NOT NULL DEFAULT 0,
    worker               text,
    queue_url            text,
    rows_read            bigint,
    rows_written         bigint,
    rows_merged          bigint,
    rows_filtered        bigint,
    rows_rejected        bigint,
    bytes                bigint,
    event_time           timestamptz,
    first_seen_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at           timestamptz,
    imported_at          timestamptz,
    finished_at          timestamptz,
    duration_seconds     double precision,
    technique            text,
    error                text,
    forwarded_message_id text,
    CONSTRAINT rows_add_up CHECK (state <> 'imported' OR coalesce(
        rows_read = rows_written + rows_merged + rows_filtered + rows_rejected, false))
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX object_identity ON penstock.object
    (head_id, coalesce(version_id, ''), coalesce(etag, ''), coalesce(size, -1), is_delete);
CREATE INDEX object_finished_at ON penstock.object (finished_at);
CREATE INDEX object_unfinished ON penstock.object (state)
    WHERE state IN ('importing', 'retrying', 'failed');

ALTER TABLE penstock.head ADD CONSTRAINT head_object FOREIGN KEY (object_id)
    REFERENCES penstock.object (id);

CREATE TABLE penstock.reject (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object_id      bigint NOT NULL REFERENCES penstock.object (id) ON DELETE CASCADE,
    row_number     bigint NOT NULL CHECK (row_number >= 1),
    class          text NOT NULL,
    column_name    text,
    message        text NOT NULL,
    payload        bytea CHECK (octet_length(payload) <= 65536),
    payload_length bigint,
    created_at     timestamptz NOT NULL DEFAULT now(),
    resolved_at    timestamptz
);
CREATE INDEX reject_object ON penstock.reject (object_id, row_number);

-- One row per live worker, rewritten by its heartbeat; a clean exit removes it.
CREATE TABLE penstock.workers (
    id                        text PRIMARY KEY,
    host                      text NOT NULL,
    pid                       integer NOT NULL,
    instance_id               text,
    version                   text NOT NULL,
    state                     text NOT NULL CHECK (state IN ('starting', 'idle', 'busy', 'draining')),
    slots                     integer NOT NULL,
    in_flight                 integer NOT NULL DEFAULT 0,
    empty_polls               integer NOT NULL DEFAULT 0,
    listen                    text,
    backends                  integer[] NOT NULL DEFAULT '{}',
    heartbeat_at              timestamptz NOT NULL,
    queue_url                 text,
    visibility_timeout_secs   integer NOT NULL,
    started_at                timestamptz NOT NULL,
    first_receive_at          timestamptz,
    -- Messages received by this worker since it started, and those of them received before.
    receives                  bigint NOT NULL DEFAULT 0,
    redeliveries              bigint NOT NULL DEFAULT 0,
    -- SentTimestamp of the oldest message in hand, and how often that one was received.
    oldest_sent_at            timestamptz,
    oldest_receive_count      integer
) WITH (fillfactor = 50);

-- One row per scaling decision.
CREATE TABLE penstock.decisions (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pool      text NOT NULL,
    at        timestamptz NOT NULL,
    desired   integer NOT NULL,
    reason    text NOT NULL,
    explain   text NOT NULL,
    inputs    jsonb NOT NULL,
    applied   boolean NOT NULL,
    outcome   text
);
CREATE INDEX decisions_pool_at ON penstock.decisions (pool, at);

-- The scaler's carried state, one row per pool.
CREATE TABLE penstock.pool_state (
    pool       text PRIMARY KEY,
    state      jsonb NOT NULL,
    leader     text,
    updated_at timestamptz NOT NULL
);

CREATE VIEW penstock.object_status AS
SELECT o.id,
       NULLIF(h.dataset, '') AS dataset,
       h.bucket,
       h.key,
       o.version_id,
       o.etag,
       o.size,
       o.sequencer,
       o.state,
       o.reason,
       o.attempts,
       o.worker,
       o.rows_read,
       o.rows_written,
       o.rows_merged,
       o.rows_filtered,
       o.rows_rejected,
       o.bytes,
       o.event_time,
       o.first_seen_at,
       o.started_at,
       o.imported_at,
       o.duration_seconds,
       o.error
FROM penstock.object o
JOIN penstock.head h ON h.id = o.head_id;

CREATE VIEW penstock.rejects AS
SELECT NULLIF(h.dataset, '') AS dataset,
       h.bucket,
       h.key,
       o.version_id,
       r.row_number,
       r.class,
       r.column_name,
       r.message,
       r.payload,
       r.payload_length,
       r.created_at,
       r.resolved_at
FROM penstock.reject r
JOIN penstock.object o ON o.id = r.object_id
JOIN penstock.head h ON h.id = o.head_id;
