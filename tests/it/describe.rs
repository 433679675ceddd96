//! From a file nobody has described yet to its rows in a table: what `describe` prints is enough, and loses nothing.

use crate::world::LIMIT;
use anyhow::{Context as _, Result, ensure};
use apache_avro::{
    Decimal, Schema, Writer,
    types::{Record, Value},
};
use flate2::read::MultiGzDecoder;
use importer::config::Config;
use penstock_tests::{
    aws::{Account, Options, Route},
    database::Database,
    postgres::Postgres,
    process::Program,
    scratch::Scratch,
    telemetry::{self, Format, Load},
};
use sqlx::Connection as _;
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

const RAW_LINES: &str = "COPY raw FROM STDIN (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')";

#[tokio::test(flavor = "multi_thread")]
async fn the_flights_are_described_and_arrive_with_every_digit() -> Result<()> {
    for name in ["airlines.csv", "airports.csv", "planes.csv", "weather.csv.gz", "flights.csv.gz"] {
        let Some(file) = sample(&format!("flights/{name}")) else { return Ok(()) };
        let desk = Described::new(&file, &[]).await?;
        desk.load(&[&file]).await?;
        desk.check_against_csv(&file).await.with_context(|| format!("{name}\n{}", desk.toml))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn spark_s_partitions_and_lines_are_described_and_arrive_as_they_are() -> Result<()> {
    let Some(lines) = sample("spark/json_gz") else { return Ok(()) };
    let Some(partitions) = sample("spark/parquet_micros") else { return Ok(()) };
    for directory in [&partitions, &lines] {
        let first = files_below(directory)?.into_iter().find(|file| is_data(file)).context("a data file")?;
        let desk = Described::new(&first, &[]).await?;
        assert!(desk.toml.contains("key = [\"event_id\"]"), "{}", desk.toml);
        desk.load(&[directory]).await?;
        let columns = desk.columns_of_the_file().await?;
        let typed = format!(
            "CREATE TABLE raw (line json); CREATE TABLE model AS SELECT {columns} FROM {} WITH NO DATA",
            desk.table
        );
        desk.database.execute(&typed).await?;
        for file in files_below(&lines)?.iter().filter(|file| is_data(file)) {
            desk.copy(RAW_LINES, &unpacked(file)?).await?;
        }
        let populate =
            format!("INSERT INTO model ({columns}) SELECT {columns} FROM raw, json_populate_record(NULL::model, line)");
        desk.database.execute(&populate).await?;
        assert_eq!(desk.database.value("SELECT count(*) FROM model").await?, "20000");
        desk.check_equal(&format!("SELECT {columns} FROM {}", desk.table), "TABLE model").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_are_described_and_arrive_as_they_were_written() -> Result<()> {
    let load = Load::new(11, 3000);
    for format in [Format::Parquet, Format::Ndjson, Format::Csv] {
        let scratch = Scratch::new("describe")?;
        let mut body = Vec::new();
        telemetry::write(format, load.events(0..3000), &mut body)?;
        let file = scratch.write(&format!("telemetry-01.{}", format.extension()), body)?;
        let desk = Described::new(&file, &[]).await?;
        assert!(desk.toml.contains("key = [\"event_id\"]"), "{}", desk.toml);
        desk.load(&[&file]).await?;
        let model = telemetry::TABLE.replace("TABLE telemetry", "TABLE model");
        desk.database.execute(&format!("{model}; {}", telemetry::insert("model", load.events(0..3000)))).await?;
        let cast = desk.database.rows(
            "SELECT format('%I::%s', attname, format_type(atttypid, atttypmod)) FROM pg_attribute \
             WHERE attrelid = 'model'::regclass AND attnum > 0 ORDER BY attnum",
        );
        let cast = cast.await?.join(", ");
        desk.check_equal(&format!("SELECT {cast} FROM {}", desk.table), "TABLE model")
            .await
            .with_context(|| format!("{format:?}\n{}", desk.sql))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_is_described_from_its_schema() -> Result<()> {
    let schema = Schema::parse_str(
        r#"{"type":"record","name":"payment","fields":[
            {"name":"payment_id","type":"long"},
            {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
            {"name":"day","type":["null",{"type":"int","logicalType":"date"}]},
            {"name":"tags","type":{"type":"array","items":"string"}},
            {"name":"raw","type":"bytes"},
            {"name":"either","type":["null","string","long"]}]}"#,
    )?;
    let mut writer = Writer::new(&schema, Vec::new())?;
    for number in 0..2i64 {
        let mut record = Record::new(&schema).context("a record")?;
        record.put("payment_id", number);
        record.put("amount", Value::Decimal(Decimal::from(vec![110 + number as u8 * 10])));
        record.put("at", Value::TimestampMicros(1_767_225_600_000_001 + number));
        record.put(
            "day",
            Value::Union(number as u32, Box::new([Value::Null, Value::Date(20_454)][number as usize].clone())),
        );
        record.put("tags", Value::Array(vec![Value::String("a".into())]));
        record.put("raw", Value::Bytes(vec![0, 0xff]));
        record.put(
            "either",
            [Value::Union(2, Box::new(Value::Long(7))), Value::Union(1, Box::new(Value::String("x".into())))]
                [number as usize]
                .clone(),
        );
        writer.append_value(record)?;
    }
    let scratch = Scratch::new("describe")?;
    let file = scratch.write("payments.avro", writer.into_inner()?)?;
    let desk = Described::new(&file, &[]).await?;
    desk.load(&[&file]).await?;
    assert_eq!(
        desk.rows().await?,
        [
            r#"0 | 1.10 | 2026-01-01T00:00:00.000001+00:00 | ∅ | ["a"] | \x00ff | 7"#,
            r#"1 | 1.20 | 2026-01-01T00:00:00.000002+00:00 | 2026-01-01 | ["a"] | \x00ff | x"#,
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_files_are_described_too() -> Result<()> {
    let zstd = |text: &[u8]| zstd::encode_all(text, 1);
    let files: [(&str, Vec<u8>, &[&str]); 6] = [
        (
            "documents.json.zst",
            zstd(br#"[{"id":18446744073709551615,"Name":"A","n":1},{"id":2,"n":"1","deep":{"a":[1.10]}}]"#)?,
            &["18446744073709551615 | A | 1 | ∅ | ∅", "2 | ∅ | 1 | {\"a\": [1.10]} | ∅"],
        ),
        ("semicolons.csv", b"kennung;Stra\xdfe;Preis\n01;Hauptstra\xdfe;1,50\n02;;\n".to_vec(), &["01 | Hauptstraße | 1.50 | ∅", "02 | ∅ | ∅ | ∅"]),
        ("tabs.tsv", b"a\tb\n1\t2026-01-31\n1\tNULL\n".to_vec(), &["1 | 2026-01-31 | ∅", "1 | ∅ | ∅"]),
        ("nameless.csv", b"7,x,2026-01-31\n8,x,2026-02-01\n".to_vec(), &["7 | x | 2026-01-31 | ∅", "8 | x | 2026-02-01 | ∅"]),
        (
            "system.ndjson",
            br#"{"ctid":"a","penstock_object":3,"select":true,"a\"b":-0.0}"#.to_vec(),
            &["a | 3 | true | -0 | ∅ | ∅"],
        ),
        (
            "wide.ndjson",
            b"{\"at\":\"2026-01-31T00:00:00.123456789Z\",\"id\":\"6FA459EA-EE8A-3CA4-894E-DB77E160355E\",\"code\":\"007\"}\n".to_vec(),
            &["2026-01-31T00:00:00.123456789Z | 6FA459EA-EE8A-3CA4-894E-DB77E160355E | 007 | ∅"],
        ),
    ];
    for (name, content, expected) in files {
        let scratch = Scratch::new("describe")?;
        let file = scratch.write(name, content)?;
        let desk = Described::new(&file, &[]).await?;
        desk.load(&[&file]).await?;
        // Which object a row came from is not known beforehand.
        if desk.sql.contains("penstock_object bigint") {
            desk.database.execute(&format!("UPDATE {} SET penstock_object = NULL", desk.table)).await?;
        }
        assert_eq!(desk.rows().await?, expected, "{name}\n{}{}", desk.sql, desk.toml);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_word_of_postgres_may_be_a_field() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    let words = database.rows("SELECT word FROM pg_get_keywords() ORDER BY word").await?;
    assert!(words.len() > 400, "{}", words.len());
    let scratch = Scratch::new("describe")?;
    let values = vec!["x"; words.len()].join(",");
    let file = scratch.write("words.csv", format!("{}\n{values}\n{values}\n", words.join(",")))?;
    let desk = Described::new(&file, &["--name", "select"]).await?;
    desk.load(&[&file]).await?;
    assert_eq!(desk.database.value("SELECT count(*) FROM public.\"select\"").await?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_a_bucket_is_described_where_it_lies() -> Result<()> {
    let options = Options { route: Route::Nowhere, ..Options::default() };
    let pipeline = Account::new().await?.pipeline(options).await?;
    let key = "orders/dt=2026-01-31/part-0.ndjson";
    pipeline.put(key, "{\"order_id\":1,\"at\":\"2026-01-31T05:00:00Z\"}\n{\"order_id\":2}\n").await?;
    let uri = format!("s3://{}/{key}", pipeline.bucket);
    let desk = Described::at(&uri, &[], pipeline.account.variables()).await?;
    assert!(desk.toml.contains(&format!("match = \"s3://{}/orders/dt={{dt}}/**\"", pipeline.bucket)), "{}", desk.toml);
    desk.load(&[Path::new(&uri)]).await?;
    assert_eq!(desk.rows().await?, ["1 | 2026-01-31T05:00:00+00:00 | 2026-01-31 | ∅", "2 | ∅ | 2026-01-31 | ∅"]);

    let ended = Program::new("importer").args(["describe", &format!("{uri}.missing")]);
    let ended = ended.envs(pipeline.account.variables()).run(LIMIT).await?;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("object does not exist"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_flag_both_are_printed_and_no_configuration_is_read() -> Result<()> {
    let scratch = Scratch::new("describe")?;
    let file = scratch.write("x.csv", "id,name\n1,a\n")?;
    scratch.write("importer.toml", "this is no configuration")?;
    let describe = |flag: Option<&str>| {
        let program = Program::new("importer").arg("describe").arg(&file).args(flag).in_directory(scratch.path());
        async move { anyhow::Ok(program.run(LIMIT).await?) }
    };
    let (both, table, dataset) =
        (describe(None).await?, describe(Some("--table")).await?, describe(Some("--dataset")).await?);
    assert!(both.status.success(), "{}", both.stderr);
    assert_eq!(both.stdout.trim(), format!("{}\n\n{}", table.stdout.trim(), dataset.stdout.trim()));
    for (name, status, said) in
        [("missing.csv", 2, "No such file"), (".", 2, "is not a file"), ("importer.bin", 1, "binary")]
    {
        scratch.write("importer.bin", b"\x7FELF\x02\x01\x01\0")?;
        let ended = Program::new("importer").args(["describe", name]).in_directory(scratch.path()).run(LIMIT).await?;
        assert_eq!(ended.status.code(), Some(status), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{name}: {}", ended.stderr);
    }
    Ok(())
}

/// A file's description, carried out.
struct Described {
    database: Database,
    scratch: Scratch,
    variables: Vec<(String, String)>,
    sql: String,
    toml: String,
    table: String,
}

impl Described {
    async fn new(file: &Path, arguments: &[&str]) -> Result<Self> {
        Self::at(file.to_str().context("UTF-8")?, arguments, Vec::new()).await
    }

    /// Describes a file, creates the table and writes the configuration.
    async fn at(file: &str, arguments: &[&str], variables: Vec<(String, String)>) -> Result<Self> {
        let scratch = Scratch::new("described")?;
        let mut printed = Vec::new();
        for flag in ["--table", "--dataset"] {
            let program = Program::new("importer").args(["describe", file, flag]).args(arguments);
            let ended = program.envs(variables.clone()).in_directory(scratch.path()).run(LIMIT).await?;
            ensure!(ended.status.success(), "describe {file} ended with {}: {}", ended.status, ended.stderr);
            printed.push(ended.stdout);
        }
        let (toml, sql) = (printed.pop().context("the dataset")?, printed.pop().context("the table")?);
        scratch.write("importer.toml", &toml)?;
        let database = Postgres::shared()?.create_database().await?;
        database.execute(&sql).await.with_context(|| sql.clone())?;
        let table = database
            .value("SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace");
        let table = table.await?;
        Ok(Self { database, scratch, variables, sql, toml, table })
    }

    /// Loads what the dataset's own pattern takes, which must leave no reject.
    async fn load(&self, uris: &[&Path]) -> Result<()> {
        let program = Program::new("importer").arg("load").args(uris).env("DATABASE_URL", self.database.url());
        let ended = program.envs(self.variables.clone()).in_directory(self.scratch.path()).run(LIMIT).await?;
        ensure!(
            ended.status.success(),
            "load ended with {}: {}{}\n{}{}",
            ended.status,
            ended.stdout,
            ended.stderr,
            self.sql,
            self.toml
        );
        let unlike = self
            .database
            .rows("SELECT key, state, reason FROM penstock.object_status WHERE state NOT IN ('imported', 'skipped')");
        assert_eq!(unlike.await?, [""; 0]);
        let counts = "SELECT sum(rows_read) > 0, sum(rows_rejected), sum(rows_merged) FROM penstock.object_status WHERE state = 'imported'";
        assert_eq!(self.database.rows(counts).await?, ["true | 0 | 0"], "{}{}", self.sql, self.toml);
        Ok(())
    }

    /// Returns the table's rows in order.
    async fn rows(&self) -> Result<Vec<String>> {
        let mut rows = self.database.rows(&format!("SELECT * FROM {} t", self.table)).await?;
        rows.sort();
        Ok(rows)
    }

    /// Returns the columns that hold the file's fields, quoted.
    async fn columns_of_the_file(&self) -> Result<String> {
        let columns = format!(
            "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0 \
             AND attname NOT IN ('extra', 'penstock_object') ORDER BY attnum",
            self.table
        );
        Ok(self.database.rows(&columns).await?.join(", "))
    }

    async fn copy(&self, statement: &str, text: &[u8]) -> Result<()> {
        let mut connection = self.database.connect().await?;
        let mut copy = connection.copy_in_raw(statement).await?;
        copy.send(text).await?;
        copy.finish().await?;
        connection.close().await?;
        Ok(())
    }

    /// Compares with the file as Postgres's own COPY reads it: numbers and texts to the letter, the rest by value.
    async fn check_against_csv(&self, file: &Path) -> Result<()> {
        let text = unpacked(file)?;
        let header = std::str::from_utf8(text.split(|byte| *byte == b'\n').next().unwrap_or_default())?.trim_end();
        let fields: Vec<String> = header.split(',').map(|name| format!("\"{}\"", name.trim_matches('"'))).collect();
        let typed: Vec<String> = fields.iter().map(|name| format!("{name} text")).collect();
        self.database.execute(&format!("CREATE TABLE raw ({})", typed.join(", "))).await?;
        let config = Config::parse(&self.toml, "importer.toml", |_| None)?;
        let null = config.datasets[0].csv.null.first().cloned().unwrap_or_default();
        self.copy(&format!("COPY raw FROM STDIN (FORMAT csv, HEADER, NULL '{null}')"), &text).await?;
        let types = format!(
            "SELECT quote_ident(attname), format_type(atttypid, atttypmod) FROM pg_attribute \
             WHERE attrelid = '{}'::regclass AND attnum > 0 AND attname <> 'penstock_object' ORDER BY attnum",
            self.table
        );
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for column in self.database.cells(&types).await? {
            let [Some(name), Some(pg_type)] = column.as_slice() else { anyhow::bail!("{column:?}") };
            let by_value = pg_type.starts_with("timestamp");
            ours.push(if by_value { name.clone() } else { format!("{name}::text") });
            // 1e3 is kept as 1000.
            let plain = format!("CASE WHEN {name} ~ '^[0-9]+e' THEN {name}::numeric::text ELSE {name} END");
            theirs.push(match pg_type.as_str() {
                _ if by_value => format!("{name}::{pg_type}"),
                "numeric" => plain,
                _ => name.clone(),
            });
        }
        assert_eq!(ours.len(), fields.len());
        let query = |columns: &[String], table: &str| format!("SELECT {} FROM {table}", columns.join(", "));
        self.check_equal(&query(&ours, &self.table), &query(&theirs, "raw")).await
    }

    /// Fails unless two queries return the same rows.
    async fn check_equal(&self, ours: &str, theirs: &str) -> Result<()> {
        let differing = format!(
            "SELECT row_to_json(row) FROM ((({ours}) EXCEPT ALL ({theirs})) UNION ALL (({theirs}) EXCEPT ALL ({ours}))) row LIMIT 5"
        );
        assert_eq!(self.database.rows(&differing).await?, [""; 0], "{ours}\n{theirs}");
        Ok(())
    }
}

fn sample(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("PENSTOCK_DATA")?).join(path);
    path.exists().then_some(path)
}

fn unpacked(file: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    match file.extension().is_some_and(|extension| extension == "gz") {
        true => MultiGzDecoder::new(fs::File::open(file)?).read_to_end(&mut text)?,
        false => fs::File::open(file)?.read_to_end(&mut text)?,
    };
    Ok(text)
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
