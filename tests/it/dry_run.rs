//! `load --dry-run` says what a load would bring and writes nothing.

use crate::world::LIMIT;
use anyhow::{Context as _, Result};
use apache_avro::{Schema, Writer, types::Record};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use penstock_tests::{
    aws::{Account, Options, Route},
    database::Database,
    postgres::Postgres,
    process::{Ended, Program},
    scratch::Scratch,
};
use std::sync::Arc;

const TABLE: &str = "CREATE TABLE pairs (id bigint PRIMARY KEY, value integer)";

/// The same three rows in every format; the second one's value is no integer.
fn files() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let lines = "{\"id\":1,\"value\":\"1\"}\n{\"id\":2,\"value\":\"x\"}\n{\"id\":3,\"value\":\"3\"}\n";
    let document = format!("[{}]", lines.trim_end().replace('\n', ","));
    let csv = "id,value\n1,1\n2,x\n3,3\n";
    Ok(vec![
        ("pairs.avro", avro()?),
        ("pairs.csv", csv.into()),
        ("pairs.csv.zst", zstd::encode_all(csv.as_bytes(), 1)?),
        ("pairs.json", document.into()),
        ("pairs.ndjson", lines.into()),
        ("pairs.parquet", parquet()?),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_s_rows_and_rejects_are_reported_and_nothing_is_written() -> Result<()> {
    let desk = Desk::new().await?;
    let files = files()?;
    for (name, content) in &files {
        desk.scratch.write(name, content)?;
    }
    let ended = desk.dry_run(&["."], Vec::new()).await?;
    assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    for (name, _) in &files {
        desk.check_reported(&ended, &format!("file://{}", desk.scratch.path().join(name).display()));
    }
    desk.check_untouched().await
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_in_a_bucket_are_reported_and_nothing_is_written() -> Result<()> {
    let desk = Desk::new().await?;
    let options = Options { route: Route::Nowhere, ..Options::default() };
    let pipeline = Account::new().await?.pipeline(options).await?;
    let files = files()?;
    for (name, content) in &files {
        pipeline.put(&format!("in/{name}"), content.clone()).await?;
    }
    let prefix = format!("s3://{}/in/", pipeline.bucket);
    let ended = desk.dry_run(&[&prefix], pipeline.account.variables()).await?;
    assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    for (name, _) in &files {
        desk.check_reported(&ended, &format!("{prefix}{name}"));
    }
    desk.check_untouched().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_fail_or_be_skipped_is_said_and_the_status_tells() -> Result<()> {
    let desk = Desk::new().await?;
    for (name, content, said) in [
        ("bad.csv", "id,value\n1,x\n2,y\n", "2 rows, 2 rejects, would fail: too many rejects"),
        ("bad.parquet", "PAR1 and no more", "would fail: decode: corrupt: "),
        ("other.csv", "a,b\n1,2\n", "would fail: "),
        ("_SUCCESS", "", "would be skipped: matches a skip pattern"),
        ("empty.csv", "", "would be skipped: it is empty"),
    ] {
        let file = desk.scratch.write(name, content)?.display().to_string();
        let ended = desk.dry_run(&[&file], Vec::new()).await?;
        let status = if said.contains("fail") { 3 } else { 0 };
        assert_eq!(ended.status.code(), Some(status), "{name}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.starts_with(&format!("file://{file}: {said}")), "{}", ended.stdout);
    }
    desk.check_untouched().await
}

/// A database that takes no writes from the importer, and a dataset for every file.
struct Desk {
    database: Database,
    scratch: Scratch,
}

impl Desk {
    async fn new() -> Result<Self> {
        let desk = Self { database: Postgres::shared()?.create_database().await?, scratch: Scratch::new("dry")? };
        desk.database.execute(TABLE).await?;
        let config = "[[dataset]]\nname = \"pairs\"\nmatch = \"**\"\ntable = \"public.pairs\"\nkey = [\"id\"]\n";
        desk.scratch.write(".importer.toml", config)?;
        Ok(desk)
    }

    /// Runs it over sessions in which Postgres itself refuses to write.
    async fn dry_run(&self, uris: &[&str], variables: Vec<(String, String)>) -> Result<Ended> {
        let url = format!("{}?options=-c%20default_transaction_read_only=on", self.database.url());
        let program = Program::new("importer").args(["load", "--dry-run", "--config", ".importer.toml"]).args(uris);
        program.env("DATABASE_URL", url).envs(variables).in_directory(self.scratch.path()).run(LIMIT).await
    }

    fn check_reported(&self, ended: &Ended, address: &str) {
        let mut lines = ended.stdout.lines().skip_while(|line| !line.starts_with(&format!("{address}: ")));
        let found = [lines.next().unwrap_or_default(), lines.next().unwrap_or_default()];
        assert_eq!(found[0], format!("{address}: 3 rows, 1 reject, would load"), "{}", ended.stdout);
        assert_eq!(found[1], "  row 2 column value: \"x\" is not a valid integer (type)", "{}", ended.stdout);
        assert!(ended.stdout.contains("\nnothing was written"), "{}", ended.stdout);
    }

    async fn check_untouched(&self) -> Result<()> {
        assert_eq!(self.database.value("SELECT count(*) FROM pairs").await?, "0");
        assert_eq!(self.database.value("SELECT to_regnamespace('penstock') IS NULL").await?, "true");
        Ok(())
    }
}

/// Three pairs of an integer and a text.
pub fn avro() -> Result<Vec<u8>> {
    let schema = Schema::parse_str(
        r#"{"type":"record","name":"pair","fields":[{"name":"id","type":"long"},{"name":"value","type":"string"}]}"#,
    )?;
    let mut writer = Writer::new(&schema, Vec::new())?;
    for (id, value) in [(1i64, "1"), (2, "x"), (3, "3")] {
        let mut record = Record::new(&schema).context("a record")?;
        record.put("id", id);
        record.put("value", value);
        writer.append_value(record)?;
    }
    Ok(writer.into_inner()?)
}

/// The same.
pub fn parquet() -> Result<Vec<u8>> {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let values: ArrayRef = Arc::new(StringArray::from(vec!["1", "x", "3"]));
    let records = RecordBatch::try_from_iter([("id", ids), ("value", values)])?;
    let mut writer = ArrowWriter::try_new(Vec::new(), records.schema(), None)?;
    writer.write(&records)?;
    Ok(writer.into_inner()?)
}
