-- The table the compose stack loads into; the same as the demo's.
CREATE TABLE IF NOT EXISTS public.telemetry (
    event_id      bigint PRIMARY KEY,
    observed_at   timestamptz NOT NULL,
    sender_domain text NOT NULL,
    source_ip     text NOT NULL,
    spf           text NOT NULL,
    dkim          text NOT NULL,
    dmarc         text NOT NULL,
    disposition   text NOT NULL,
    message_count integer NOT NULL,
    spend         numeric(12,4),
    score         double precision,
    tags          text[] NOT NULL,
    meta          jsonb
);
