//! Every form in which a message may name an object.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::aws::{Depth, Options, Route};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn every_route_leads_each_twin_key_to_its_own_bytes() -> Result<()> {
    for route in [Route::Sns, Route::SnsRaw, Route::Direct, Route::EventBridge] {
        let world = World::new(Options { route, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
        let keys = ["a b.ndjson", "a+b.ndjson", "a%2Bb.ndjson", "ä/ö#?.ndjson", "a%20b.ndjson"];
        for (id, key) in keys.iter().enumerate() {
            world.pipeline.put(&format!("pairs/{key}"), pairs(&[(id as i64, key)])).await?;
        }
        world.pipeline.wait_for_visible(keys.len() as u64, LIMIT).await?;
        world.drain(1).await?;
        let expected: Vec<_> = keys.iter().enumerate().map(|(id, key)| format!("{id}={key}")).collect();
        assert_eq!(world.pairs().await?, expected, "{route:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_pointers_name_objects_as_they_are() -> Result<()> {
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
    let bucket = &world.pipeline.bucket;
    world.pipeline.put("pairs/a b", pairs(&[(1, "bare")])).await?;
    let stored = world.pipeline.put("pairs/a+b", pairs(&[(2, "exact")])).await?;
    world.pipeline.put("pairs/a%2Bb", pairs(&[(3, "encoded")])).await?;
    world.pipeline.send(format!("s3://{bucket}/pairs/a b")).await?;
    world.pipeline.send(json!({"bucket": bucket, "key": "pairs/a+b", "etag": stored.etag}).to_string()).await?;
    world.pipeline.send(json!({"bucket": bucket, "key": "pairs/a%2Bb"}).to_string()).await?;
    world.drain(1).await?;
    assert_eq!(world.pairs().await?, ["1=bare", "2=exact", "3=encoded"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_many_records_is_deleted_when_all_are_safe() -> Result<()> {
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
    let mut records = Vec::new();
    for id in 0..5 {
        let key = format!("pairs/{id}");
        world.pipeline.put(&key, pairs(&[(id, "x")])).await?;
        records.push(record(&world, "2.1", "ObjectCreated:Put", &key));
    }
    world.pipeline.send(json!({"Records": records}).to_string()).await?;
    world.drain(1).await?;
    assert_eq!(world.pairs().await?, ["0=x", "1=x", "2=x", "3=x", "4=x"]);
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn test_events_are_dropped_and_unreadable_bodies_forwarded_unchanged() -> Result<()> {
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
    let test_event = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": world.pipeline.bucket});
    world.pipeline.send(test_event.to_string()).await?;
    let unreadable = ["{\"nothing\": \"known\"", "42", "hello\n  {\"a\": 1}\u{fffd}"];
    for body in unreadable {
        world.pipeline.send(body).await?;
    }
    world.drainer().expect_line("message cannot be read").start()?.finish(LIMIT).await?;
    let mut letters = world.pipeline.take_dead_letters().await?;
    letters.sort_by_key(|letter| unreadable.iter().position(|body| *body == letter.body));
    assert_eq!(letters.iter().map(|letter| letter.body.as_str()).collect::<Vec<_>>(), unreadable);
    for letter in letters {
        assert_eq!(letter.attributes.get("penstock-reason").map(String::as_str), Some("unreadable_message"));
    }
    assert_eq!(world.ledger().await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minor_event_version_is_read_and_another_major_fails() -> Result<()> {
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
    world.pipeline.put("pairs/minor", pairs(&[(1, "minor")])).await?;
    world.pipeline.put("pairs/major", pairs(&[(2, "major")])).await?;
    for (version, key) in [("2.99", "pairs/minor"), ("3.0", "pairs/major")] {
        let event = json!({"Records": [record(&world, version, "ObjectCreated:Put", key)]});
        world.pipeline.send(event.to_string()).await?;
    }
    world.drainer().expect_line("unsupported_event").start()?.finish(LIMIT).await?;
    assert_eq!(world.pairs().await?, ["1=minor"]);
    let letters = world.pipeline.take_dead_letters().await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].attributes.get("penstock-reason").map(String::as_str), Some("unsupported_event"));
    Ok(())
}

fn record(world: &World, version: &str, name: &str, key: &str) -> Value {
    json!({
        "eventVersion": version,
        "eventSource": "aws:s3",
        "awsRegion": "eu-west-1",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "eventName": name,
        "s3": {"bucket": {"name": world.pipeline.bucket}, "object": {"key": key}},
    })
}
