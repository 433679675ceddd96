//! Memory is bounded for any input, and time with it: hostile objects five at once beside good ones.

use crate::{
    hostile::bodies::{avro_of_nulls, bomb, lines, parquet_of_texts, zstd_frame},
    world::{LIMIT, World},
};
use anyhow::Result;
use penstock_tests::aws::Options;
use std::time::Instant;

const MEMORY_MIB: u64 = 96;

/// What a worker may take in all: its memory, and what the process needs besides. A debug build's code, which counts
/// as resident, is larger than that of a release by about as much as is added last (measured: 38 instead of 17 MiB).
const PEAK_MIB: u64 = MEMORY_MIB + 40 + 22;

const TABLE: &str =
    "CREATE TABLE pairs (id bigint PRIMARY KEY, value text, a jsonb, b jsonb, c jsonb, d jsonb, e jsonb)";

const DATASET: &str = r#"
[[dataset]]
name = "pairs"
match = "s3://*/pairs/**"
table = "public.pairs"
key = ["id"]
max_rejects = "50%"

[worker]
memory_mib = 96
"#;

/// Lets five objects of this body be imported at once, and two good ones beside them; returns how each ended.
async fn five_at_once(name: &str, body: &[u8]) -> Result<Vec<String>> {
    let world = World::new(Options::default(), TABLE, DATASET).await?;
    for index in 0..5 {
        world.pipeline.put(&format!("pairs/hostile{index}"), body).await?;
    }
    for (index, ids) in [1_000_000..=1_000_999, 2_000_000..=2_000_999].into_iter().enumerate() {
        world.pipeline.put(&format!("pairs/good{index}"), lines(ids)).await?;
    }
    world.pipeline.wait_for_visible(7, LIMIT).await?;
    let worker = world.drainer().expect_line("object failed").expect_line("held").watch_memory().start()?;
    let started = Instant::now();
    worker.finish(LIMIT).await?;
    let peak_mib = worker.peak_memory_kib() / 1024;
    println!("five of {name}: {:.1} s, peak {peak_mib} MiB", started.elapsed().as_secs_f64());
    assert!(peak_mib <= PEAK_MIB, "{name}: the peak was {peak_mib} MiB");
    let ended = "SELECT split_part(key, '/', 2) || ': ' || state || coalesce('(' || reason || ')', '') \
                 FROM penstock.object_status ORDER BY key";
    let mut ended = world.database.rows(ended).await?;
    assert_eq!(ended[..2], ["good0: imported", "good1: imported"], "{name}");
    let loaded = world.database.value("SELECT count(*) FROM pairs WHERE id >= 1000000").await?;
    assert_eq!(loaded, "2000", "{name}");
    Ok(ended.split_off(2))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_long_rows_took_is_given_back_between_them() -> Result<()> {
    let row = |id: u32| format!("{id},\"{}\"\n", "x".repeat(8 << 20));
    let body = format!("id,value\n{}", (1..=4).map(row).collect::<String>());
    assert_eq!(five_at_once("four rows of 8 MiB", body.as_bytes()).await?, all("imported"));
    Ok(())
}

fn all(outcome: &str) -> Vec<String> {
    (0..5).map(|index| format!("hostile{index}: {outcome}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_layers_and_of_later_frames_are_counted_together() -> Result<()> {
    let inner = [lines(1..=1), zstd_padding()].concat();
    // Each fits by itself, both do not.
    let layers = zstd_frame(25, &zstd_frame(25, &inner));
    assert_eq!(five_at_once("two windows of 32 MiB", &layers).await?, all("failed(limits)"));
    let frames = [zstd_frame(17, &lines(1..=1)), zstd_frame(26, &lines(2..=2))].concat();
    assert_eq!(five_at_once("a later window of 64 MiB", &frames).await?, all("failed(limits)"));
    Ok(())
}

/// Text that is longer than is looked at before rows are read.
fn zstd_padding() -> Vec<u8> {
    b"\n".repeat(100_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_dictionaries_of_all_columns_are_counted_together() -> Result<()> {
    for dictionary in [true, false] {
        let body = parquet_of_texts(&["value", "a", "b", "c", "d", "e"], 3, 5 << 20, dictionary)?;
        assert!(body.len() < 100_000, "{} bytes", body.len());
        let ended = five_at_once("six columns of 15 MiB", &body).await?;
        assert_eq!(ended, all("failed(limits)"), "dictionary: {dictionary}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_grow_as_they_are_encoded_are_rejects() -> Result<()> {
    // 60 bytes a row: a million nulls in each of five columns.
    let ended = five_at_once("rows of nulls", &avro_of_nulls(&["a", "b", "c", "d", "e"], 1 << 20)).await?;
    assert_eq!(ended, all("failed(too_many_rejects)"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn long_rows_take_turns_and_all_are_loaded() -> Result<()> {
    // With what is read and what is written of it, a row takes nearly all that one object may.
    let row = |id: u32| format!("{{\"id\":{id},\"value\":\"{}\"}}\n", "x".repeat(14 << 20));
    let body = bomb((1..=2).map(row).collect::<String>().as_bytes());
    assert_eq!(five_at_once("rows of 14 MiB", &body).await?, all("imported"));
    Ok(())
}
