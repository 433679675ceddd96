-- Sites and accounts are datasets of their own; posts name them, often before they are here.
CREATE TABLE IF NOT EXISTS public.site (
    site_id   bigint PRIMARY KEY,
    name      text NOT NULL,
    blocked   boolean,
    from_file text NOT NULL
);

CREATE TABLE IF NOT EXISTS public.account (
    user_id    bigint PRIMARY KEY,
    handle     text NOT NULL,
    plan       text NOT NULL,
    updated_at timestamptz NOT NULL,
    sort_at    timestamptz NOT NULL,
    from_file  text NOT NULL
);

-- Site and handle stand in the row, because they never change; the plan does, so the view has it.
CREATE TABLE IF NOT EXISTS public.post (
    post_id         bigint PRIMARY KEY,
    dt              date NOT NULL,
    site_id         bigint,
    site_name       text,
    user_id         bigint,
    handle          text,
    country         text NOT NULL,
    body            text,
    posted_at       timestamptz NOT NULL,
    sort_at         timestamptz NOT NULL,
    from_file       text NOT NULL,
    penstock_object bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS public.post_line (
    post_id         bigint NOT NULL,
    line            int NOT NULL,
    item            text NOT NULL,
    amount          numeric(12, 2) NOT NULL CHECK (amount >= 0),
    penstock_object bigint NOT NULL,
    PRIMARY KEY (post_id, line)
);

CREATE TABLE IF NOT EXISTS public.post_card (
    post_id         bigint PRIMARY KEY,
    card            text,
    penstock_object bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS public.post_language (
    post_id         bigint PRIMARY KEY,
    language        text NOT NULL,
    penstock_object bigint NOT NULL
);

-- What readers see: the base row at once, and the rest when it is there.
CREATE OR REPLACE VIEW public.post_complete AS
SELECT p.post_id, p.dt, p.country, p.site_name, p.handle, a.plan, p.body, c.card, l.language, lines.total
FROM public.post p
LEFT JOIN public.account a USING (user_id)
LEFT JOIN public.post_card c USING (post_id)
LEFT JOIN public.post_language l USING (post_id)
LEFT JOIN (SELECT post_id, sum(amount) AS total FROM public.post_line GROUP BY post_id) lines USING (post_id);
