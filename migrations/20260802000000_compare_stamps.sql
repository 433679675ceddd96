-- Which of two sightings of one key is the later, said once. Both are plain expressions that Postgres puts in the place
-- of the call.

-- Returns whether one stamp is no later than another; NULL where nothing tells. Sequencers are hexadecimal texts that
-- compare after the shorter is filled up with zeros on the right
-- (AWS, "Amazon S3 User Guide", "Event message structure"); Last-Modified counts where one of them has none.
CREATE FUNCTION penstock.is_no_later(
    sequencer text, last_modified timestamptz, than_sequencer text, than_last_modified timestamptz
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN sequencer IS NOT NULL AND than_sequencer IS NOT NULL THEN
                     rpad(sequencer, greatest(length(sequencer), length(than_sequencer)), '0') COLLATE "C"
                         <= rpad(than_sequencer, greatest(length(sequencer), length(than_sequencer)), '0') COLLATE "C"
                ELSE last_modified <= than_last_modified END
$$;

-- Returns the sequencer of the later stamp. A later Last-Modified takes the sequencer away when it brings none, for the
-- old one belongs to an earlier put of the same bytes; where nothing tells, any sequencer is better than none.
CREATE FUNCTION penstock.later_sequencer(
    sequencer text, last_modified timestamptz, seen_sequencer text, seen_last_modified timestamptz
) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN sequencer IS NOT NULL AND seen_sequencer IS NOT NULL THEN
                    CASE WHEN penstock.is_no_later(sequencer, NULL, seen_sequencer, NULL) THEN seen_sequencer
                         ELSE sequencer END
                WHEN last_modified < seen_last_modified THEN seen_sequencer
                WHEN last_modified > seen_last_modified THEN sequencer
                ELSE coalesce(sequencer, seen_sequencer) END
$$;
