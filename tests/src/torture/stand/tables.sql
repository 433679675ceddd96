CREATE TABLE newest (id bigint PRIMARY KEY, version bigint, value text, amount int CHECK (amount >= 0), penstock_object bigint);
CREATE TABLE own (LIKE newest INCLUDING ALL);
CREATE TABLE whole (id bigint, version bigint, value text, amount int CHECK (amount >= 0), penstock_object bigint);
CREATE INDEX ON whole (penstock_object);
CREATE TABLE log (LIKE whole INCLUDING ALL);
CREATE TABLE site (LIKE newest INCLUDING ALL);
CREATE TABLE post (LIKE whole INCLUDING ALL, extra text);
CREATE TABLE card (LIKE newest INCLUDING ALL, extra text);
CREATE TABLE fan (LIKE whole INCLUDING ALL, extra text);
