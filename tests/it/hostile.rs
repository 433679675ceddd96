//! Hostile and broken files: each ends in a stated outcome in bounded time and memory, and the next message
//! is imported as if nothing had happened.

pub mod bodies;

use crate::world::{LIMIT, World};
use anyhow::{Context as _, Result};
use bodies::{avro, avro_block, bomb, gzip, lines, parquet, zstd_frame, zstd_repeated, zstd_skippable};
use penstock_tests::{
    aws::{Options, Route},
    proxy::{Action, Rule, http_answer},
    wait,
};
use serde_json::json;
use std::{collections::BTreeSet, time::Instant};

/// What a worker with `memory_mib = 64` may take in all, whatever it is fed.
const PEAK_MIB: u64 = 160;

const TABLE: &str = "CREATE TABLE pairs (id bigint PRIMARY KEY, value text, amount numeric, ratio float8)";

const DATASET: &str = r#"
[[dataset]]
name = "pairs"
match = "s3://*/pairs/**"
table = "public.pairs"
key = ["id"]
max_rejects = 9

[worker]
memory_mib = 64

[limits]
expansion_free_mib = 32
"#;

#[tokio::test(flavor = "multi_thread")]
async fn gzip_truncated() -> Result<()> {
    let whole = gzip(&lines(1..=1000));
    check("pairs/k.ndjson.gz", &whole[..whole.len() / 2], "failed(corrupt)").await?;
    // All the rows are there, the checksum is not.
    check("pairs/k.ndjson.gz", &whole[..whole.len() - 8], "failed(corrupt)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_with_a_broken_crc() -> Result<()> {
    let mut body = gzip(&lines(1..=1000));
    let crc = body.len() - 8;
    body[crc] ^= 1;
    check("pairs/k.ndjson.gz", &body, "failed(corrupt)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_with_trailing_garbage() -> Result<()> {
    check("pairs/k.ndjson.gz", &[gzip(&lines(1..=3)), b"garbage".to_vec()].concat(), "failed(corrupt)").await?;
    // Zeros are what tapes and block devices leave.
    check("pairs/k.ndjson.gz", &[gzip(&lines(1..=3)), vec![0; 512]].concat(), "imported 3 = 3 + 0 + 0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_of_many_members() -> Result<()> {
    let body = [gzip(&lines(1..=3)), gzip(b""), gzip(&lines(4..=5))].concat();
    check("pairs/k.ndjson.gz", &body, "imported 5 = 5 + 0 + 0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn bgzip() -> Result<()> {
    check("pairs/k.ndjson.gz", &bodies::bgzip(&lines(1..=20_000)), "imported 20000 = 20000 + 0 + 0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn gz_that_is_plain() -> Result<()> {
    check("pairs/k.ndjson.gz", &lines(1..=3), "imported 3 = 3 + 0 + 0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_that_is_gzip() -> Result<()> {
    check("pairs/k.ndjson", &gzip(&lines(1..=3)), "imported 3 = 3 + 0 + 0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn doubly_packed() -> Result<()> {
    check("pairs/k.ndjson.gz", &gzip(&gzip(&lines(1..=3))), "imported 3 = 3 + 0 + 0").await?;
    check("pairs/k.ndjson.gz", &zstd_frame(17, &gzip(&lines(1..=3))), "imported 3 = 3 + 0 + 0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn zstd_with_skippable_frames() -> Result<()> {
    let (skippable, rows) = (zstd_skippable(b"an index of some seekable format"), zstd_frame(17, &lines(1..=3)));
    let body = [skippable.clone(), rows, skippable.clone(), zstd_frame(17, &lines(4..=5)), skippable].concat();
    check("pairs/k.ndjson.zst", &body, "imported 5 = 5 + 0 + 0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn zstd_with_a_huge_window() -> Result<()> {
    check("pairs/k.ndjson.zst", &zstd_frame(24, &lines(1..=3)), "imported 3 = 3 + 0 + 0").await?;
    // Larger than what one object may take of the memory.
    check("pairs/k.ndjson.zst", &zstd_frame(26, &lines(1..=3)), "failed(limits)").await?;
    check("pairs/k.ndjson.zst", &zstd_frame(31, &lines(1..=3)), "failed(limits)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn zip_bombs() -> Result<()> {
    let row = lines(1..=1);
    let gzipped = bomb(&[row.clone(), vec![b' '; 256 << 20]].concat());
    check("pairs/k.ndjson.gz", &gzipped, "failed(limits)").await?;
    check("pairs/k.ndjson.gz", &bomb(&gzipped), "failed(limits)").await?;
    check("pairs/k.ndjson.zst", &zstd_repeated(&row, b' ', 8192), "failed(limits)").await?;
    check("pairs/k.zip", b"PK\x03\x04\x14\0\0\0\x08\0", "failed(corrupt)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_60_mb_line_is_a_reject_and_the_rows_after_it_load() -> Result<()> {
    let line = format!("{{\"id\":2,\"value\":\"{}\"}}\n", "x".repeat(60_000_000));
    let body = [lines(1..=1), line.into_bytes(), lines(3..=4)].concat();
    let world = hostile("pairs/k.ndjson", &body, "imported 4 = 3 + 0 + 1").await?;
    let kept = "SELECT row_number, class, octet_length(payload), payload_length FROM penstock.rejects";
    assert_eq!(world.database.rows(kept).await?, ["2 | row_size | 65536 | 60000019"]);
    assert_eq!(ids(&world).await?, "1 3 4");
    let record = format!("2,{}\n", "x".repeat(60_000_000));
    let body = [&b"id,value\n1,a\n"[..], record.as_bytes(), b"3,c\n"].concat();
    check("pairs/k.csv", &body, "imported 3 = 2 + 0 + 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_200_deep_is_a_reject_and_the_rows_after_it_load() -> Result<()> {
    let deep = format!("{{\"id\":2,\"value\":{}1{}}}\n", "[".repeat(200), "]".repeat(200));
    let body = [lines(1..=1), deep.into_bytes(), lines(3..=3)].concat();
    let world = hostile("pairs/k.ndjson", &body, "imported 3 = 2 + 0 + 1").await?;
    assert_eq!(world.database.value("SELECT row_number || ' ' || class FROM penstock.rejects").await?, "2 depth");
    // So deep that whoever went down with it would not come back.
    let deep = [b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat();
    check("pairs/k.json", &[&b"[{\"id\":1},"[..], &deep, b"]"].concat(), "imported 2 = 1 + 0 + 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn lone_surrogates_and_zeros_and_invalid_utf8_are_rejects() -> Result<()> {
    let body = b"{\"id\":1,\"value\":\"\\ud800\"}\n{\"id\":2,\"value\":\"\\u0000\"}\n{\"id\":3,\"value\":\"\xff\"}\n\
                 {\"id\":4,\"value\":\"\0\"}\n{\"id\":5,\"value\":\"\\ud83d\\ude00\"}\n";
    let world = hostile("pairs/k.ndjson", body, "imported 5 = 1 + 0 + 4").await?;
    assert_eq!(classes(&world).await?, "1 text, 2 text, 3 text, 4 syntax");
    assert_eq!(world.database.value("SELECT value FROM pairs WHERE id = 5").await?, "\u{1f600}");
    let world = hostile("pairs/k.csv", b"id,value\n1,\xff\n2,a\0b\n3,c\n", "imported 3 = 1 + 0 + 2").await?;
    assert_eq!(classes(&world).await?, "1 text, 2 text");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nan_infinity_and_1e999_go_where_they_fit() -> Result<()> {
    let body = "{\"id\":1,\"ratio\":\"NaN\"}\n{\"id\":2,\"ratio\":\"-Infinity\"}\n{\"id\":3,\"ratio\":1e999}\n\
                {\"id\":4,\"amount\":1e999}\n{\"id\":5,\"amount\":\"NaN\"}\n{\"id\":6,\"amount\":\"Infinity\"}\n\
                {\"id\":7,\"amount\":NaN}\n{\"id\":8,\"ratio\":Infinity}\n{\"id\":9,\"amount\":1e999999999}\n{\"id\":10}\n";
    let world = hostile("pairs/k.ndjson", body.as_bytes(), "imported 10 = 4 + 0 + 6").await?;
    assert_eq!(ids(&world).await?, "1 2 4 10");
    assert_eq!(classes(&world).await?, "3 range, 5 range, 6 range, 7 syntax, 8 syntax, 9 range");
    assert_eq!(world.database.value("SELECT ratio FROM pairs WHERE id = 2").await?, "-Infinity");
    assert_eq!(world.database.value("SELECT amount = 10::numeric ^ 999 FROM pairs WHERE id = 4").await?, "true");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclosed_quote_in_a_million_lines_fails_the_object() -> Result<()> {
    let mut body = b"id,value\n".to_vec();
    for id in 1..=1_000_000 {
        let value = if id == 500_000 { "\"open" } else { "closed" };
        body.extend_from_slice(format!("{id},{value}\n").as_bytes());
    }
    check("pairs/k.csv", &body, "failed(corrupt)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ragged_rows_are_rejects() -> Result<()> {
    let body = b"id,value\n1,a\n2\n3,c,too much\n\n4,d\n";
    let world = hostile("pairs/k.csv", body, "imported 4 = 2 + 0 + 2").await?;
    assert_eq!(classes(&world).await?, "2 syntax, 3 syntax");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn utf16_with_a_byte_order_mark() -> Result<()> {
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let utf16 =
            |text: &str| -> Vec<u8> { "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(bytes).collect() };
        let world = hostile("pairs/k.csv", &utf16("id,value\r\n1,ä€\r\n"), "imported 1 = 1 + 0 + 0").await?;
        assert_eq!(world.database.value("SELECT value FROM pairs WHERE id = 1").await?, "ä€");
        check("pairs/k.ndjson", &utf16("{\"id\":1,\"value\":\"ä\"}\n{\"id\":2}\n"), "imported 2 = 2 + 0 + 0").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_with_corrupt_pages() -> Result<()> {
    let (mut body, parts) = parquet(5000)?;
    let page = parts.data_page + (parts.end - parts.data_page) / 2;
    body[page..parts.end].fill(0xFF);
    check("pairs/k.parquet", &body, "failed(corrupt)").await?;
    // The header of the page.
    let (mut body, parts) = parquet(5000)?;
    body[parts.data_page..parts.data_page + 16].fill(0xFF);
    check("pairs/k.parquet", &body, "failed(corrupt)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_with_a_corrupt_dictionary() -> Result<()> {
    let (mut body, parts) = parquet(5000)?;
    let dictionary = parts.dictionary_page + (parts.data_page - parts.dictionary_page) / 2;
    body[dictionary..parts.data_page].fill(0xFF);
    check("pairs/k.parquet", &body, "failed(corrupt)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_with_a_corrupt_footer() -> Result<()> {
    let (body, parts) = parquet(5000)?;
    let n_bytes = body.len();
    let mut broken = body.clone();
    broken[parts.footer..n_bytes - 8].fill(0xFF);
    check("pairs/k.parquet", &broken, "failed(corrupt)").await?;
    let mut longer = body.clone();
    longer[n_bytes - 8..n_bytes - 4].copy_from_slice(&u32::MAX.to_le_bytes());
    check("pairs/k.parquet", &longer, "failed(corrupt)").await?;
    check("pairs/k.parquet", &body[..n_bytes - 1], "failed(corrupt)").await?;
    check("pairs/k.parquet", b"PAR1", "failed(corrupt)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_with_zero_rows() -> Result<()> {
    check("pairs/k.parquet", &parquet(0)?.0, "imported 0 = 0 + 0 + 0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_with_a_broken_sync_marker() -> Result<()> {
    check("pairs/k.avro", &avro(3, b"0123456789abcdef"), "imported 6 = 6 + 0 + 0").await?;
    check("pairs/k.avro", &avro(3, b"0123456789abcdeX"), "failed(corrupt)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_of_2_to_the_62nd_rows_of_no_byte() -> Result<()> {
    // Of a table without a key: in another nothing fills it.
    let dataset = DATASET.replace("key = [\"id\"]", "mode = \"append\"");
    let nothing = r#"{"name":"value","type":"null"}"#;
    for (n_rows, expected) in [(1 << 62, "failed(limits)"), (1000, "imported 1000 = 1000 + 0 + 0")] {
        let world = World::new(Options::default(), "CREATE TABLE pairs (id bigint, value text)", &dataset).await?;
        check_in(&world, "pairs/k.avro", &avro_block(nothing, n_rows, b""), expected).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_cut_short_with_a_clean_end_is_read_on() -> Result<()> {
    let world = World::new(Options::default(), TABLE, DATASET).await?;
    let body = lines(1..=20_000);
    world.pipeline.put("pairs/k.ndjson", body.clone()).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let proxy = world.aws_proxy().await?;
    let cut = proxy.add(Rule::when_client_sends("/pairs/k.ndjson", Action::CutAnswer(body.len() / 2)));
    world.through_aws(world.drainer(), "S3", &proxy).start()?.finish(LIMIT).await?;
    assert_eq!(cut.count(), 1);
    assert_eq!(outcomes(&world, "pairs/k.ndjson").await?, ["imported 20000 = 20000 + 0 + 0"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_announced_shorter_than_it_is_is_not_taken_for_the_object() -> Result<()> {
    let world = World::new(Options::default(), TABLE, DATASET).await?;
    let body = lines(1..=1000);
    let stored = world.pipeline.put("pairs/k.ndjson", body.clone()).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let proxy = world.aws_proxy().await?;
    let half = lines(1..=500);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"{}\"\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\nConnection: close\r\n\r\n",
        half.len(),
        stored.etag
    );
    let short =
        proxy.add(Rule::when_client_sends("/pairs/k.ndjson", Action::Answer([head.into_bytes(), half].concat())));
    world.through_aws(world.drainer(), "S3", &proxy).start()?.finish(LIMIT).await?;
    assert_eq!(short.count(), 1);
    assert_eq!(outcomes(&world, "pairs/k.ndjson").await?, ["imported 1000 = 1000 + 0 + 0"]);
    Ok(())
}

/// A GET that always announces, and brings, half of what a HEAD says there is.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_body_is_always_announced_shorter_fails_and_none_of_it_is_loaded() -> Result<()> {
    let dataset = DATASET.replace("[worker]\n", "[worker]\nbrake_secs = 0\n");
    let world = World::new(Options::default(), TABLE, &dataset).await?;
    let stored = world.pipeline.put("pairs/k.ndjson", lines(1..=1000)).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let proxy = world.aws_proxy().await?;
    let half = lines(1..=500);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"{}\"\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\nConnection: close\r\n\r\n",
        half.len(),
        stored.etag
    );
    let get = format!("GET /{}/pairs/k.ndjson", world.pipeline.bucket);
    proxy.add(Rule::when_client_sends(&get, Action::Answer([head.into_bytes(), half].concat())).always());
    let worker = world.through_aws(world.drainer(), "S3", &proxy).expect_line("failed").start()?;
    worker.finish(LIMIT).await?;
    assert_eq!(outcomes(&world, "pairs/k.ndjson").await?, ["failed(refused)"]);
    let error = world.database.value("SELECT error FROM penstock.object_status").await?;
    assert!(error.contains("WrongLength"), "{error}");
    assert_eq!(world.database.value("SELECT count(*) FROM pairs").await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_answering_503_twenty_times_is_waited_out() -> Result<()> {
    let world = World::new(Options::default(), TABLE, DATASET).await?;
    world.pipeline.put("pairs/k.ndjson", lines(1..=3)).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let proxy = world.aws_proxy().await?;
    let busy = Rule::when_client_sends("/pairs/k.ndjson", Action::Answer(http_answer(503, "Slow Down"))).times(20);
    let busy = proxy.add(busy);
    world.through_aws(world.drainer(), "S3", &proxy).expect_line("held").start()?.finish(LIMIT).await?;
    assert_eq!(busy.count(), 20);
    assert_eq!(outcomes(&world, "pairs/k.ndjson").await?, ["imported 3 = 3 + 0 + 0"]);
    assert_eq!(world.pipeline.dead_letter_depth().await?.visible, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_overwritten_between_event_and_read() -> Result<()> {
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, TABLE, DATASET).await?;
    let (bucket, key) = (world.pipeline.bucket.clone(), "pairs/k.ndjson");
    let body = lines(1..=3);
    let stored = world.pipeline.put(key, body.clone()).await?;
    let event = json!({"bucket": bucket, "key": key, "etag": stored.etag, "size": body.len(), "sequencer": "01"});
    world.pipeline.send(event.to_string()).await?;
    world.pipeline.put(key, lines(4..=5)).await?;
    world.drain(1).await?;
    assert_eq!(outcomes(&world, key).await?, ["superseded(overwritten)", "imported 2 = 2 + 0 + 0"]);
    assert_eq!(ids(&world).await?, "4 5");
    Ok(())
}

async fn check(key: &str, body: &[u8], expected: &str) -> Result<()> {
    hostile(key, body, expected).await.map(drop)
}

/// Has a worker import the object, and then another one, as the next message.
async fn hostile(key: &str, body: &[u8], expected: &str) -> Result<World> {
    let world = World::new(Options::default(), TABLE, DATASET).await?;
    check_in(&world, key, body, expected).await?;
    Ok(world)
}

async fn check_in(world: &World, key: &str, body: &[u8], expected: &str) -> Result<()> {
    world.pipeline.put(key, body).await?;
    let worker = world.worker().expect_line("object failed").watch_memory().start()?;
    let started = Instant::now();
    wait_for_end(world, key).await?;
    let took = started.elapsed();
    assert_eq!(
        outcomes(world, key).await?,
        [expected],
        "{key}: {:?}",
        world.database.rows("SELECT error FROM penstock.object_status").await?
    );
    world.pipeline.put("pairs/next.ndjson", "{\"id\":-1}\n").await?;
    wait_for_end(world, "pairs/next.ndjson").await?;
    assert_eq!(outcomes(world, "pairs/next.ndjson").await?, ["imported 1 = 1 + 0 + 0"], "{key}");
    world.pipeline.wait_until_empty(LIMIT).await?;
    assert_eq!(world.pipeline.dead_letter_depth().await?.visible, u64::from(expected.starts_with("failed")), "{key}");
    worker.terminate(LIMIT).await?;
    let peak_mib = worker.peak_memory_kib() / 1024;
    println!("{key}: {expected} in {:.1} s, peak {peak_mib} MiB", took.as_secs_f64());
    assert!(peak_mib <= PEAK_MIB, "{key}: the peak was {peak_mib} MiB");
    Ok(())
}

async fn wait_for_end(world: &World, key: &str) -> Result<()> {
    wait::until(&format!("the end of {key}"), LIMIT, || async {
        // Of a later migration, so that nobody reads while constraints between the tables are dropped.
        let there = world.database.value("SELECT to_regclass('penstock.unfinished') IS NOT NULL").await?;
        if there != "true" {
            return Ok(None);
        }
        let states = format!("SELECT state FROM penstock.object_status WHERE key = '{key}'");
        let states: BTreeSet<String> = world.database.rows(&states).await?.into_iter().collect();
        let ended =
            !states.is_empty() && states.iter().all(|state| !matches!(state.as_str(), "importing" | "retrying"));
        Ok(ended.then_some(()))
    })
    .await
    .with_context(|| key.to_owned())
}

/// Returns what became of a key's versions: `state(reason) read = written + merged + rejected`.
async fn outcomes(world: &World, key: &str) -> Result<Vec<String>> {
    let query = format!(
        "SELECT state || coalesce('(' || reason || ')', '') || coalesce(' ' || rows_read || ' = ' || \
             rows_written || ' + ' || rows_merged || ' + ' || rows_rejected, '') \
         FROM penstock.object_status WHERE key = '{key}' ORDER BY id"
    );
    world.database.rows(&query).await
}

/// Returns the ids in the table but for that of the next object.
async fn ids(world: &World) -> Result<String> {
    world.database.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM pairs WHERE id > 0").await
}

async fn classes(world: &World) -> Result<String> {
    let classes = "SELECT string_agg(row_number || ' ' || class, ', ' ORDER BY row_number) FROM penstock.rejects";
    world.database.value(classes).await
}
