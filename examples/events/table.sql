CREATE TABLE IF NOT EXISTS public.events (
    id      bigint PRIMARY KEY,
    kind    text NOT NULL CONSTRAINT kind_is_known CHECK (kind IN ('view', 'click')),
    at      timestamptz NOT NULL,
    seconds numeric(8, 2),
    extra   jsonb
);
