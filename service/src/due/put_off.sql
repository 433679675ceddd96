-- $1 lookup. A look that took too long is tried again after a pause that grows, whoever asks for it meanwhile.
UPDATE penstock.recheck_item
SET at = clock_timestamp() + make_interval(secs => least(3600, 60 * 2 ^ least(attempts, 6))),
    attempts = attempts + 1,
    error = 'took too long',
    took_too_long = true
WHERE lookup = $1 AND at <= clock_timestamp()
