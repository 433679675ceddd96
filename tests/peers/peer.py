"""Upserts files into the table telemetry with one of the field's own tools, for `make bench-peers`.

    peer.py TOOL FORMAT DATABASE_URL FILE...

Each file is one transaction, rows go by way of a staging table without an index, and meet those that are there by
INSERT ... ON CONFLICT, as the importer's do. Where a tool merges by itself, it does.
"""

import gzip
import json
import sys

COLUMNS = (
    "event_id observed_at sender_domain source_ip spf dkim dmarc disposition message_count spend score".split()
)
TYPES = (
    "bigint timestamptz text text text text text text integer numeric(12,4) float8".split()
)
STAGING = "CREATE TEMP TABLE staging (%s) ON COMMIT DROP" % ", ".join(
    f"{name} {kind}" for name, kind in zip(COLUMNS, TYPES)
)


def merge(staging):
    """Returns the upsert from a staging table."""
    names = ", ".join(COLUMNS)
    values = ", ".join(f"{name}::{kind}" for name, kind in zip(COLUMNS, TYPES))
    others = COLUMNS[1:]
    update = ", ".join(f"{name} = excluded.{name}" for name in others)
    differs = " OR ".join(f"t.{name} IS DISTINCT FROM excluded.{name}" for name in others)
    return (
        f"INSERT INTO public.telemetry AS t ({names}) SELECT DISTINCT ON (event_id) {values} FROM {staging} "
        f"ORDER BY event_id ON CONFLICT (event_id) DO UPDATE SET {update} WHERE {differs}"
    )


def arrow(kind, path):
    """Returns a file as an Arrow table with the column types of the target."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv
    from pyarrow import json as arrow_json
    from pyarrow import parquet

    if kind == "parquet":
        return parquet.read_table(path, columns=COLUMNS)
    if kind == "csv.gz":
        table = arrow_csv.read_csv(path)
    else:
        table = arrow_json.read_json(gzip.open(path))
    fields = {
        "event_id": pa.int64(),
        "observed_at": pa.timestamp("us", tz="UTC"),
        "message_count": pa.int32(),
        "spend": pa.float64(),
        "score": pa.float64(),
    }
    schema = pa.schema([(name, fields.get(name, pa.string())) for name in COLUMNS])
    return table.select(COLUMNS).cast(schema)


def with_psycopg(kind, url, paths):
    import psycopg

    for path in paths:
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(STAGING)
            if kind == "csv.gz":
                # The server reads the text itself.
                with cursor.copy("COPY staging FROM STDIN (FORMAT csv, HEADER true)") as copy, gzip.open(path) as file:
                    while chunk := file.read(1 << 20):
                        copy.write(chunk)
            else:
                with cursor.copy("COPY staging FROM STDIN") as copy:
                    for row in rows(kind, path):
                        copy.write_row(row)
            cursor.execute(merge("staging"))


def rows(kind, path):
    """Yields a file's rows as tuples."""
    if kind == "parquet":
        from pyarrow import parquet

        for batch in parquet.ParquetFile(path).iter_batches(columns=COLUMNS):
            yield from zip(*(column.to_pylist() for column in batch.columns))
    else:
        with gzip.open(path, "rt") as lines:
            for line in lines:
                row = json.loads(line)
                yield tuple(row.get(name) for name in COLUMNS)


def with_adbc(kind, url, paths):
    from adbc_driver_postgresql import dbapi

    for path in paths:
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("staging", arrow(kind, path), mode="create", temporary=True)
            cursor.execute(merge("staging"))
            connection.commit()


def with_duckdb(kind, url, paths):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"LOAD '{postgres_extension()}'")
    connection.execute(f"ATTACH '{url}' AS pg (TYPE postgres)")
    names = ", ".join(COLUMNS)
    reader = {"parquet": "read_parquet", "csv.gz": "read_csv", "ndjson.gz": "read_json"}[kind]
    for path in paths:
        connection.execute("BEGIN")
        connection.execute(f"CREATE TABLE pg.staging AS SELECT {names} FROM {reader}('{path}')")
        connection.execute("CALL postgres_execute('pg', ?)", [merge("staging")])
        connection.execute("DROP TABLE pg.staging")
        connection.execute("COMMIT")


def postgres_extension():
    """Returns the path of DuckDB's postgres extension, which its package brings."""
    import glob
    import importlib.util

    spec = importlib.util.find_spec("duckdb_extension_postgres_scanner")
    for place in spec.submodule_search_locations:
        for path in glob.glob(f"{place}/**/*.duckdb_extension", recursive=True):
            return path
    raise SystemExit("the package has no extension file")


def with_dlt(kind, url, paths):
    import dlt

    pipeline = dlt.pipeline("peer", destination=dlt.destinations.postgres(url), dataset_name="public")
    for path in paths:
        pipeline.run(
            [arrow(kind, path)],
            table_name="telemetry",
            write_disposition={"disposition": "merge", "strategy": "upsert"},
            primary_key="event_id",
        )


def with_sling(kind, url, paths):
    import os
    import subprocess

    import sling_linux_amd64

    if kind == "parquet":
        raise SystemExit("sling reads Parquet by way of a program that it downloads when it is run")
    binary = sling_linux_amd64.SLING_BIN
    os.chmod(binary, 0o755)
    options = {"csv.gz": {"format": "csv"}, "ndjson.gz": {"format": "jsonlines", "flatten": True}}[kind]
    quiet = {"SLING_DISABLE_TELEMETRY": "TRUE", "SLING_LOADED_AT_COLUMN": "false"}
    for path in paths:
        command = [binary, "run", "--src-stream", f"file://{path}", "--src-options", json.dumps(options)]
        command += ["--select", ",".join(COLUMNS), "--tgt-conn", f"{url}?sslmode=disable"]
        command += ["--tgt-object", "public.telemetry", "--mode", "incremental", "--primary-key", "event_id"]
        subprocess.run(command, check=True, env=os.environ | quiet)


def main():
    tool, kind, url, *paths = sys.argv[1:]
    tools = {
        "psycopg": with_psycopg,
        "adbc": with_adbc,
        "duckdb": with_duckdb,
        "dlt": with_dlt,
        "sling": with_sling,
    }
    tools[tool](kind, url, paths)


if __name__ == "__main__":
    main()
