-- $1 pool. Its pause, NULL where there is none or it is over.
SELECT CASE WHEN s.pause_until > clock_timestamp()
       THEN jsonb_build_object('at', s.pause_size, 'until', s.pause_until, 'by', s.paused_by) END
FROM penstock.pool_state s WHERE s.pool = $1
