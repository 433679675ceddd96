CREATE TABLE IF NOT EXISTS public.telemetry (
    event_id      bigint PRIMARY KEY,
    observed_at   timestamptz NOT NULL,
    sender_domain text NOT NULL,
    dmarc         text,
    disposition   text,
    message_count integer,
    spend         numeric(12, 4),
    dt            date
);
