CREATE TABLE public.site (
    site_id bigint PRIMARY KEY,
    name    text NOT NULL,
    blocked boolean
);

CREATE TABLE public.post (
    post_id   bigint PRIMARY KEY,
    site_id   bigint,
    site_name text,
    country   text,
    body      text,
    sort_at   timestamptz NOT NULL
);

CREATE TABLE public.post_line (
    post_id bigint NOT NULL,
    line    int NOT NULL,
    item    text NOT NULL,
    amount  numeric(12, 2) NOT NULL,
    PRIMARY KEY (post_id, line)
);

CREATE TABLE public.post_card (
    post_id bigint PRIMARY KEY,
    card    text NOT NULL
);

CREATE VIEW public.post_with_card AS
SELECT p.*, c.card FROM public.post p LEFT JOIN public.post_card c USING (post_id);
