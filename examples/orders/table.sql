CREATE TABLE IF NOT EXISTS public.orders (
    order_id   bigint PRIMARY KEY,
    customer   text NOT NULL,
    country    text,
    amount     numeric(12, 2),
    placed_at  timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
