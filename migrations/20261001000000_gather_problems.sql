-- What pages about the ledger are made from, so that none of them counts it: what is wrong and waits to be mended, and
-- what became of objects in each minute. Both only ever get rows of their own, so no import waits for another here.

-- The lock that CREATE TRIGGER takes waits no longer than this; where it is not granted the migration is tried again.
SET LOCAL lock_timeout = '5s';

-- Objects that failed, and rejects that wait for their second chance, by what is wrong with them.
CREATE TABLE penstock.problem (
    object_id   bigint NOT NULL,
    head_id     bigint NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('failed', 'rejected')),
    dataset     text NOT NULL,
    -- Of an object why it failed, of rejects their class; '' where there is none.
    reason      text NOT NULL,
    -- Of rejects; '' where there is none.
    column_name text NOT NULL,
    -- Objects, or rows.
    n           bigint NOT NULL,
    at          timestamptz NOT NULL
);
CREATE INDEX problem_group ON penstock.problem (kind, dataset, reason, column_name, at) INCLUDE (object_id, n);
CREATE INDEX problem_object ON penstock.problem (object_id);
CREATE INDEX problem_head ON penstock.problem (head_id);

-- What became of a queue's objects in one minute, written once when it is over.
CREATE TABLE penstock.dataset_minute (
    dataset       text NOT NULL,
    at            timestamptz NOT NULL,
    n_imported    bigint NOT NULL,
    n_skipped     bigint NOT NULL,
    n_superseded  bigint NOT NULL,
    n_gone        bigint NOT NULL,
    n_failed      bigint NOT NULL,
    rows_written  bigint NOT NULL,
    rows_rejected bigint NOT NULL,
    bytes         bigint NOT NULL,
    -- Seconds from the event to the commit, of what was imported.
    lag_p50       double precision,
    lag_p95       double precision,
    newest_event  timestamptz,
    PRIMARY KEY (dataset, at)
);

-- Up to when that is written.
CREATE TABLE penstock.rolled_up (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    up_to   timestamptz NOT NULL
);
INSERT INTO penstock.rolled_up (up_to) VALUES (date_trunc('minute', now() - interval '2 hours'));

CREATE FUNCTION penstock.follow_failed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM penstock.problem p WHERE p.object_id = OLD.id AND (p.kind = 'failed' OR TG_OP = 'DELETE');
    END IF;
    IF TG_OP <> 'DELETE' AND (NEW.state = 'failed' OR NEW.state = 'imported' AND NEW.error IS NOT NULL) THEN
        INSERT INTO penstock.problem (object_id, head_id, kind, dataset, reason, column_name, n, at)
        SELECT NEW.id, NEW.head_id, 'failed', h.dataset, coalesce(NEW.reason, ''), '', 1,
               coalesce(NEW.finished_at, clock_timestamp())
        FROM penstock.head h WHERE h.id = NEW.head_id;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION penstock.follow_rejects() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM touched) THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM penstock.problem p
        WHERE p.kind = 'rejected' AND p.object_id IN (SELECT t.object_id FROM touched t);
    END IF;
    INSERT INTO penstock.problem (object_id, head_id, kind, dataset, reason, column_name, n, at)
    SELECT o.id, o.head_id, 'rejected', h.dataset, r.class, coalesce(r.column_name, ''), count(*), min(r.created_at)
    FROM (SELECT DISTINCT t.object_id FROM touched t) changed
    JOIN penstock.object o ON o.id = changed.object_id
    JOIN penstock.head h ON h.id = o.head_id
    JOIN penstock.reject r ON r.object_id = o.id AND r.resolved_at IS NULL
    WHERE TG_OP <> 'INSERT' OR r.id IN (SELECT t.id FROM touched t)
    GROUP BY o.id, h.id, r.class, r.column_name;
    RETURN NULL;
END $$;

CREATE TRIGGER failed_begun AFTER INSERT ON penstock.object
    FOR EACH ROW WHEN (NEW.state = 'failed') EXECUTE FUNCTION penstock.follow_failed();
CREATE TRIGGER failed_changed AFTER UPDATE OF state, reason, error, finished_at ON penstock.object
    FOR EACH ROW WHEN ((OLD.state = 'failed' OR OLD.state = 'imported' AND OLD.error IS NOT NULL
                        OR NEW.state = 'failed' OR NEW.state = 'imported' AND NEW.error IS NOT NULL)
                       AND (OLD.state, OLD.reason, OLD.finished_at, OLD.error IS NULL)
                           IS DISTINCT FROM (NEW.state, NEW.reason, NEW.finished_at, NEW.error IS NULL))
    EXECUTE FUNCTION penstock.follow_failed();
CREATE TRIGGER failed_gone AFTER DELETE ON penstock.object
    FOR EACH ROW WHEN (OLD.state = 'failed' OR OLD.error IS NOT NULL OR OLD.rows_rejected > 0)
    EXECUTE FUNCTION penstock.follow_failed();
CREATE TRIGGER rejects_came AFTER INSERT ON penstock.reject REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION penstock.follow_rejects();
CREATE TRIGGER rejects_changed AFTER UPDATE ON penstock.reject REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION penstock.follow_rejects();
CREATE TRIGGER rejects_went AFTER DELETE ON penstock.reject REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION penstock.follow_rejects();

-- Writes the minutes that are over: at most five at once, by one at a time, and by nobody who would have to wait. An
-- entry is stamped shortly before it is committed, so a minute is taken a while after its end.
CREATE FUNCTION penstock.roll_up() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    from_time timestamptz;
    to_time   timestamptz;
    ends_at   timestamptz := date_trunc('minute', clock_timestamp() - interval '15 seconds');
BEGIN
    IF (SELECT r.up_to >= ends_at FROM penstock.rolled_up r) THEN
        RETURN;
    END IF;
    SELECT r.up_to INTO from_time FROM penstock.rolled_up r FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR from_time >= ends_at THEN
        RETURN;
    END IF;
    -- A night without objects is passed over.
    SELECT date_trunc('minute', min(f.at)) INTO from_time FROM penstock.finished f WHERE f.at >= from_time;
    to_time := least(ends_at, coalesce(from_time + interval '5 minutes', ends_at));
    INSERT INTO penstock.dataset_minute AS m
    SELECT h.dataset,
           date_trunc('minute', f.at),
           count(*) FILTER (WHERE o.state = 'imported' AND o.imported_at >= f.at - interval '1 second'),
           count(*) FILTER (WHERE o.state = 'skipped'),
           count(*) FILTER (WHERE o.state = 'superseded'),
           count(*) FILTER (WHERE o.state = 'gone'),
           count(*) FILTER (WHERE o.state = 'failed' OR o.state = 'imported' AND o.error IS NOT NULL),
           coalesce(sum(o.rows_written) FILTER (WHERE o.imported_at >= f.at - interval '1 second'), 0),
           coalesce(sum(o.rows_rejected) FILTER (WHERE o.imported_at >= f.at - interval '1 second'), 0),
           coalesce(sum(o.bytes) FILTER (WHERE o.imported_at >= f.at - interval '1 second'), 0),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM o.imported_at - o.event_time)::float8)
               FILTER (WHERE o.imported_at >= f.at - interval '1 second'),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM o.imported_at - o.event_time)::float8)
               FILTER (WHERE o.imported_at >= f.at - interval '1 second'),
           max(o.event_time) FILTER (WHERE o.imported_at >= f.at - interval '1 second')
    FROM penstock.finished f
    JOIN penstock.object o ON o.id = f.object_id AND o.finished_at = f.at
    JOIN penstock.head h ON h.id = o.head_id
    WHERE f.at >= from_time AND f.at < to_time
    GROUP BY 1, 2
    ON CONFLICT DO NOTHING;
    DELETE FROM penstock.dataset_minute m
    WHERE m.at < ends_at - interval '90 days'
      AND m.dataset IN (SELECT d.dataset FROM penstock.dataset_minute d WHERE d.at = from_time);
    UPDATE penstock.rolled_up SET up_to = to_time;
END $$;

-- Forgets the problems of versions that a newer one of their key has taken the place of.
CREATE FUNCTION penstock.forget_mended() RETURNS void LANGUAGE sql AS $$
    DELETE FROM penstock.problem p
    WHERE p.ctid = ANY (ARRAY(
        SELECT old.ctid
        FROM (SELECT DISTINCT o.head_id, o.id
              FROM penstock.finished f
              JOIN penstock.object o ON o.id = f.object_id
              WHERE f.at > clock_timestamp() - interval '20 seconds' AND o.state = 'imported' AND o.error IS NULL
              LIMIT 20000) done
        JOIN penstock.head h ON h.id = done.head_id AND h.object_id = done.id
        JOIN penstock.problem old ON old.head_id = done.head_id AND old.object_id <> done.id
        WHERE EXISTS (SELECT FROM penstock.problem)
        FOR UPDATE OF old SKIP LOCKED
    ))
$$;

-- Whoever may read or write the ledger may do so here, also where rights were given by hand.
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END AS role,
               CASE WHEN acl.privilege_type = 'SELECT' THEN 'SELECT' ELSE 'SELECT, INSERT, UPDATE, DELETE' END AS rights
        FROM pg_catalog.pg_class c
        CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) acl
        WHERE c.oid = 'penstock.object'::regclass
          AND acl.grantee <> c.relowner
          AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON penstock.problem, penstock.dataset_minute, penstock.rolled_up TO %s',
                       given.rights, given.role);
    END LOOP;
END $$;
