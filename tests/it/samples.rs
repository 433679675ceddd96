//! Files of the outside world, where `PENSTOCK_DATA` has them: every column agrees with Postgres's own reading.

use crate::world::{LIMIT, World};
use anyhow::{Context as _, Result};
use flate2::read::MultiGzDecoder;
use penstock_tests::aws::Options;
use sqlx::{Connection as _, Executor as _, PgConnection};
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

const FLIGHTS_TABLE: &str = "CREATE TABLE flights (
    year smallint, month smallint, day smallint,
    dep_time integer, sched_dep_time integer, dep_delay double precision,
    arr_time integer, sched_arr_time integer, arr_delay numeric(6,1),
    carrier text, flight integer, tailnum varchar(8), origin char(3), dest text,
    air_time real, distance numeric, hour smallint, minute smallint, time_hour timestamptz,
    PRIMARY KEY (time_hour, carrier, flight)
)";

const FLIGHTS: &str = r#"
[[dataset]]
name = "flights"
match = "s3://*/flights/**"
table = "public.flights"
key = ["time_hour", "carrier", "flight"]

[dataset.csv]
null = ["NA"]
"#;

const SPARK_TABLE: &str = "CREATE TABLE spark (
    event_id bigint PRIMARY KEY, observed_at timestamptz, sender_domain text, source_ip inet, spf text,
    message_count integer, spend numeric(12,4), score double precision, tags text[], meta jsonb, dt date
)";

const SPARK: &str = r#"
[[dataset]]
name = "partitions"
match = "s3://*/parquet/dt={dt}/**"
table = "public.spark"
key = ["event_id"]

[[dataset]]
name = "lines"
match = "s3://*/json/**"
table = "public.spark"
key = ["event_id"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_flights_arrive_as_postgres_itself_reads_them() -> Result<()> {
    let Some(file) = sample("flights/flights.csv.gz") else { return Ok(()) };
    let world = World::new(Options::default(), FLIGHTS_TABLE, FLIGHTS).await?;
    world.pipeline.put_file("flights/flights.csv.gz", &file).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    world.drain(1).await?;
    assert_eq!(world.ledger().await?, ["flights/flights.csv.gz | imported | - | 336776"]);

    world.database.execute("CREATE TABLE model AS TABLE flights WITH NO DATA").await?;
    let mut connection = world.database.connect().await?;
    copy(&mut connection, "COPY model FROM STDIN (FORMAT csv, HEADER, NULL 'NA')", &file).await?;
    connection.close().await?;
    check_equal(&world, "flights").await
}

#[tokio::test(flavor = "multi_thread")]
async fn spark_s_partitions_and_lines_arrive_as_postgres_itself_reads_the_lines() -> Result<()> {
    let Some(lines) = sample("spark/json_gz") else { return Ok(()) };
    let Some(partitions) = sample("spark/parquet_micros") else { return Ok(()) };
    for (directory, prefix) in [(&partitions, "parquet"), (&lines, "json")] {
        let world = World::new(Options::default(), SPARK_TABLE, SPARK).await?;
        let files = files_below(directory)?;
        for file in &files {
            let key = format!("{prefix}/{}", file.strip_prefix(directory)?.display());
            world.pipeline.put_file(&key, file).await?;
        }
        world.pipeline.wait_for_visible(files.len() as u64, LIMIT).await?;
        world.drain(2).await?;
        let marks = world.ledger().await?.into_iter().filter(|line| line.contains("| skipped | name_rule |")).count();
        let n_data = files.iter().filter(|file| is_data(file)).count();
        assert_eq!(marks, files.len() - n_data, "Spark's own files are skipped");

        world.database.execute("CREATE TABLE model AS TABLE spark WITH NO DATA; CREATE TABLE raw (line json)").await?;
        let mut connection = world.database.connect().await?;
        for file in files_below(&lines)?.iter().filter(|file| is_data(file)) {
            // Characters that no JSON text holds make CSV take each line as it is.
            copy(&mut connection, "COPY raw FROM STDIN (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')", file).await?;
        }
        let typed = "INSERT INTO model SELECT r.* FROM raw, json_populate_record(NULL::spark, line) r";
        connection.execute(typed).await?;
        connection.close().await?;
        assert_eq!(world.database.value("SELECT count(*) FROM model").await?, "20000");
        check_equal(&world, "spark").await.context(prefix)?;
    }
    Ok(())
}

/// Fails unless the table and `model` hold the same rows.
async fn check_equal(world: &World, table: &str) -> Result<()> {
    let differing =
        format!("(TABLE {table} EXCEPT ALL TABLE model) UNION ALL (TABLE model EXCEPT ALL TABLE {table}) LIMIT 5");
    assert_eq!(world.database.rows(&differing).await?, [""; 0]);
    Ok(())
}

async fn copy(connection: &mut PgConnection, statement: &str, gzipped: &Path) -> Result<()> {
    let mut text = Vec::new();
    MultiGzDecoder::new(fs::File::open(gzipped)?).read_to_end(&mut text)?;
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(text).await?;
    copy.finish().await?;
    Ok(())
}

fn sample(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("PENSTOCK_DATA")?).join(path);
    path.exists().then_some(path)
}

fn is_data(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with(['.', '_']))
}

fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    files.sort();
    Ok(files)
}
