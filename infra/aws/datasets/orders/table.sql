CREATE TABLE public.orders (
    penstock_object bigint,
    shop            text NOT NULL,
    order_number    bigint NOT NULL,
    placed_at       timestamptz NOT NULL,
    total           numeric(12, 2) NOT NULL
);
CREATE INDEX ON public.orders (penstock_object);
