-- What lets the updates of penstock.object stay on their pages (HOT): no index of it holds anything that an import
-- changes. Which entries are unfinished, and which were finished lately, is kept beside it, in narrow tables.
-- Triggers keep them, so that the release before this one, which knows nothing of them, is followed as well.
-- The lock that CREATE TRIGGER takes lets readers go on and waits for writers; they wait for it no longer than this,
-- which is less than they wait for any lock. Where it is not granted the migration fails and is tried again.
SET LOCAL lock_timeout = '5s';

-- Entries that are `importing` or `retrying`.
CREATE TABLE penstock.unfinished (
    object_id bigint PRIMARY KEY
);

-- Entries of a queue's objects, by when they were finished; kept for two hours, for the scaler.
-- An entry that was finished again is here again; penstock.object says when it was finished last.
CREATE TABLE penstock.finished (
    object_id bigint NOT NULL,
    at        timestamptz NOT NULL
);
CREATE INDEX finished_at ON penstock.finished (at);

CREATE FUNCTION penstock.follow_unfinished() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM penstock.unfinished WHERE object_id = OLD.id;
    ELSIF NEW.state IN ('importing', 'retrying') THEN
        INSERT INTO penstock.unfinished (object_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM penstock.unfinished WHERE object_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION penstock.follow_finished() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO penstock.finished (object_id, at) VALUES (NEW.id, NEW.finished_at);
    RETURN NULL;
END $$;

CREATE TRIGGER unfinished_begun AFTER INSERT ON penstock.object
    FOR EACH ROW WHEN (NEW.state IN ('importing', 'retrying'))
    EXECUTE FUNCTION penstock.follow_unfinished();
CREATE TRIGGER unfinished_changed AFTER UPDATE OF state ON penstock.object
    FOR EACH ROW WHEN ((OLD.state IN ('importing', 'retrying')) <> (NEW.state IN ('importing', 'retrying')))
    EXECUTE FUNCTION penstock.follow_unfinished();
CREATE TRIGGER unfinished_gone AFTER DELETE ON penstock.object
    FOR EACH ROW WHEN (OLD.state IN ('importing', 'retrying'))
    EXECUTE FUNCTION penstock.follow_unfinished();
CREATE TRIGGER finished AFTER UPDATE OF finished_at ON penstock.object
    FOR EACH ROW WHEN (NEW.queue_url IS NOT NULL AND NEW.finished_at IS DISTINCT FROM OLD.finished_at)
    EXECUTE FUNCTION penstock.follow_finished();

-- Nobody writes until this commits, so none is missed. Their index is dropped later only.
INSERT INTO penstock.unfinished (object_id)
SELECT id FROM penstock.object WHERE state IN ('importing', 'retrying');

-- Room on a page for the second version of each of its rows: an entry is made when its import begins, and written
-- again when that ends; of a group's entries all at once.
ALTER TABLE penstock.object SET (fillfactor = 40);
ALTER TABLE penstock.head SET (fillfactor = 45);

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
        EXECUTE format('GRANT %s ON penstock.unfinished, penstock.finished TO %s', given.rights, given.role);
    END LOOP;
END $$;
