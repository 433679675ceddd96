-- no-transaction
-- What failed before it was gathered. Such an entry is locked meanwhile, so that none is written down that has just been
-- mended; only who imports one of them again waits for this.
INSERT INTO penstock.problem (object_id, head_id, kind, dataset, reason, column_name, n, at)
SELECT o.id, o.head_id, 'failed', h.dataset, coalesce(o.reason, ''), '', 1, coalesce(o.finished_at, o.first_seen_at)
FROM (SELECT * FROM penstock.object o
      WHERE (o.state = 'failed' OR o.state = 'imported' AND o.error IS NOT NULL)
        AND NOT EXISTS (SELECT FROM penstock.problem p WHERE p.object_id = o.id AND p.kind = 'failed')
      FOR SHARE OF o) o
JOIN penstock.head h ON h.id = o.head_id;
