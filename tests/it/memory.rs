//! Memory does not grow with an object's size.

use crate::{
    desk::Desk,
    world::{LIMIT, TELEMETRY, World},
};
use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::Options,
    scratch::Scratch,
    telemetry::{self, Format, Load},
};
use std::{fs::File, io::BufWriter, time::Duration};

/// Uncompressed size of the object; `PENSTOCK_TEST_OBJECT_MIB` makes it larger (2048 is the promise's own figure).
const OBJECT_MIB: u64 = 256;

/// What the default budget (`memory_mib = 128`) may take in all.
const PEAK_MIB: u64 = 160;

/// About what a line of telemetry has.
const LINE_BYTES: u64 = 417;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_imports_within_the_budget() -> Result<()> {
    let object_mib = match std::env::var("PENSTOCK_TEST_OBJECT_MIB") {
        Ok(mib) => mib.parse().context("read PENSTOCK_TEST_OBJECT_MIB")?,
        Err(_) => OBJECT_MIB,
    };
    let load = Load::new(40, (object_mib << 20) / LINE_BYTES);
    let scratch = Scratch::new("memory")?;
    let path = scratch.path().join("large.ndjson.gz");
    let generated = load.clone();
    let to = path.clone();
    let n_bytes = tokio::task::spawn_blocking(move || -> Result<u64> {
        let file = BufWriter::new(File::create(to)?);
        telemetry::write(Format::Ndjson, generated.events(0..generated.n_rows()), file)
    })
    .await??;
    assert!(n_bytes >= (object_mib << 20) * 95 / 100, "{n_bytes} bytes");

    let world = World::new(Options::default(), telemetry::TABLE, TELEMETRY).await?;
    world.pipeline.put_file("telemetry/large.ndjson.gz", &path).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let worker = world.drainer().watch_memory().start()?;
    // A debug build on a busy machine is slow.
    worker.finish(LIMIT + Duration::from_secs(2 * object_mib)).await?;
    world.pipeline.delete("telemetry/large.ndjson.gz").await?;
    let expected = format!("telemetry/large.ndjson.gz | imported | - | {}", load.n_rows());
    assert_eq!(world.ledger().await?, [expected]);
    let peak_mib = worker.peak_memory_kib() / 1024;
    println!("an object of {} MiB took {peak_mib} MiB", n_bytes >> 20);
    assert!(peak_mib > 10 && peak_mib <= PEAK_MIB, "the peak was {peak_mib} MiB");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_objects_at_once_share_the_memory_and_none_is_staged_for_want_of_it() -> Result<()> {
    let desk = Desk::new(telemetry::LEAN_TABLE, "table = \"telemetry\"\nkey = [\"event_id\"]").await?;
    // In a row group of 100,000 rows dictionaries are as long as writers let them become.
    let load = Load::new(41, 600_000);
    let mut arguments = vec!["load".to_owned()];
    for index in 0..3 {
        let mut file = Vec::new();
        telemetry::write_lean(Format::Parquet, 1, load.events(load.object(index, 3)), &mut file)?;
        arguments.push(desk.write(&format!("part-{index}.parquet"), file)?);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    desk.succeed(&arguments).await?;
    let techniques = "SELECT technique, count(*), sum(rows_written) FROM penstock.object GROUP BY technique";
    assert_eq!(desk.database.rows(techniques).await?, ["direct | 3 | 600000"]);
    Ok(())
}
