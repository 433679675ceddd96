//! Which version stands.

use super::{
    bench::{Bench, event, forced, pointing, settle},
    shelf::{BUCKET, Shelf},
};
use anyhow::Result;
use importer::{
    ledger::{self, Attempt, Ended, HeadKey, State},
    message::{Delivery, ObjectPointer},
    order::{Identity, Stamp},
};
use penstock_tests::wait;
use sqlx::Executor as _;
use std::time::Duration;

const IMPORTED: &str = "imported 1 = 1 + 0 + 0";

async fn bench(shelf: Shelf) -> Result<Bench> {
    Bench::with_shelf(shelf, "CREATE TABLE t (id int PRIMARY KEY, v text)", "table = \"public.t\"\nkey = [\"id\"]")
        .await
}

fn row(v: &str) -> String {
    format!("{{\"id\": 1, \"v\": \"{v}\"}}\n")
}

async fn value(bench: &Bench) -> Result<String> {
    bench.database.value("SELECT v FROM t").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_that_arrives_after_a_newer_touches_nothing() -> Result<()> {
    let bench = bench(Shelf::versioned()).await?;
    let (older, newer) = (bench.shelf.put("k", &row("older")), bench.shelf.put("k", &row("newer")));
    assert_eq!(bench.settle(&event(&newer, "02")).await?, IMPORTED);
    let before = bench.rows("SELECT xmin, ctid, * FROM t").await?;
    assert_eq!(bench.settle(&event(&older, "01")).await?, "superseded");
    assert_eq!(bench.settle(&forced(event(&older, "01"))).await?, "superseded", "not even when forced");
    assert_eq!(bench.rows("SELECT xmin, ctid, * FROM t").await?, before);
    assert_eq!(bench.ledger().await?, ["imported | ∅", "superseded | ∅"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_version_again_rewrites_nothing() -> Result<()> {
    let bench = bench(Shelf::default()).await?;
    let put = bench.shelf.put("k", &row("a"));
    assert_eq!(bench.settle(&event(&put, "01")).await?, IMPORTED);
    let before = bench.rows("SELECT xmin, ctid, * FROM t").await?;
    assert_eq!(bench.settle(&event(&put, "01")).await?, "already imported");
    assert_eq!(bench.settle(&pointing(ObjectPointer::new(BUCKET, "k"))).await?, "already imported");
    assert_eq!(bench.settle(&forced(event(&put, "01"))).await?, IMPORTED, "force imports, and finds all rows equal");
    assert_eq!(bench.rows("SELECT xmin, ctid, * FROM t").await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn content_put_back_is_imported_again() -> Result<()> {
    let bench = bench(Shelf::default()).await?;
    for (v, sequencer) in [("a", "01"), ("b", "02"), ("a", "03")] {
        assert_eq!(bench.put("k", &row(v), sequencer).await?, IMPORTED);
        assert_eq!(value(&bench).await?, v);
    }
    assert_eq!(bench.ledger().await?, ["imported | ∅", "imported | ∅"], "the same version is the same row");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_version_between_two_sightings_of_another_is_superseded() -> Result<()> {
    let bench = bench(Shelf::default()).await?;
    bench.put("k", &row("a"), "01").await?;
    // B is read while it is there, and reaches the fence after A was put again and seen again.
    let b = bench.shelf.put("k", &row("b"));
    let gate = bench.shelf.gate(&b);
    let late = bench.worker("late", Duration::from_secs(10))?;
    let late = tokio::spawn(async move { settle(&late, &event(&b, "02")).await });
    gate.reached().await;
    assert_eq!(bench.put("k", &row("a"), "03").await?, "already imported");
    gate.open();
    assert_eq!(late.await??, "superseded");
    assert_eq!(value(&bench).await?, "a");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sighting_without_sequencer_moves_the_order_on_too() -> Result<()> {
    let bench = bench(Shelf::default()).await?;
    let a = bench.shelf.put_at("k", &row("a"), 1000);
    bench.settle(&event(&a, "01")).await?;
    let b = bench.shelf.put_at("k", &row("b"), 1010);
    let gate = bench.shelf.gate(&b);
    let late = bench.worker("late", Duration::from_secs(10))?;
    let late = tokio::spawn(async move { settle(&late, &event(&b, "02")).await });
    gate.reached().await;
    // The event of A's second put was lost; a pointer finds it.
    bench.shelf.put_at("k", &row("a"), 1020);
    assert_eq!(bench.settle(&pointing(ObjectPointer::new(BUCKET, "k"))).await?, "already imported");
    gate.open();
    assert_eq!(late.await??, "superseded");
    assert_eq!(value(&bench).await?, "a");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sequencers_of_different_length_are_padded() -> Result<()> {
    let bench = bench(Shelf::versioned()).await?;
    let put = |v: &str| bench.shelf.put("k", &row(v));
    let (a, b, c, d) = (put("a"), put("b"), put("c"), put("d"));
    assert_eq!(bench.settle(&event(&b, "00AB01")).await?, IMPORTED);
    assert_eq!(bench.settle(&event(&a, "00AB")).await?, "superseded");
    assert_eq!(bench.settle(&event(&d, "00AC")).await?, IMPORTED);
    assert_eq!(bench.settle(&event(&c, "00AB99999999")).await?, "superseded");
    assert_eq!(value(&bench).await?, "d");
    // The stored one only grows, by the same rule.
    assert_eq!(bench.settle(&event(&d, "00AC000")).await?, "already imported");
    assert_eq!(bench.settle(&event(&d, "00")).await?, "already imported");
    assert_eq!(bench.settle(&event(&c, "00ABFF")).await?, "superseded");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn last_modified_orders_what_has_no_sequencer() -> Result<()> {
    let bench = bench(Shelf::versioned()).await?;
    let put = |v: &str, second| bench.shelf.put_at("k", &row(v), second);
    let (a, b, c, d) = (put("a", 1000), put("b", 1010), put("c", 1020), put("d", 1030));
    assert_eq!(bench.settle(&pointing(b.clone())).await?, IMPORTED);
    assert_eq!(bench.settle(&pointing(a.clone())).await?, "superseded");
    assert_eq!(bench.settle(&event(&a, "01")).await?, "superseded", "one sequencer alone orders nothing");
    assert_eq!(bench.settle(&event(&c, "03")).await?, IMPORTED);
    assert_eq!(bench.settle(&pointing(b)).await?, "superseded");
    assert_eq!(bench.settle(&pointing(d)).await?, IMPORTED);
    assert_eq!(bench.settle(&event(&c, "03")).await?, "superseded");
    assert_eq!(value(&bench).await?, "d");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_versions_that_nothing_tells_apart_the_one_in_the_store_stands() -> Result<()> {
    let bench = bench(Shelf::default()).await?;
    let a = bench.shelf.put("k", &row("a"));
    let gate = bench.shelf.gate(&a);
    let late = bench.worker("late", Duration::from_secs(10))?;
    let late = tokio::spawn(async move { settle(&late, &pointing(a)).await });
    gate.reached().await;
    // In the same second; its event is here and gone before A reaches the fence.
    assert_eq!(bench.put("k", &row("b"), "02").await?, IMPORTED);
    gate.open();
    assert_eq!(late.await??, "already imported", "A's importer finds B");
    assert_eq!(value(&bench).await?, "b");
    let c = bench.shelf.put("k", &row("c"));
    assert_eq!(bench.settle(&pointing(c)).await?, IMPORTED, "and what the store has is imported");
    assert_eq!(value(&bench).await?, "c");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_without_version_means_the_object_as_it_is() -> Result<()> {
    let bench = bench(Shelf::versioned()).await?;
    bench.shelf.put_at("k", &row("a"), 1000);
    let b = bench.shelf.put_at("k", &row("b"), 1010);
    assert_eq!(bench.settle(&pointing(ObjectPointer::new(BUCKET, "k"))).await?, IMPORTED);
    assert_eq!(value(&bench).await?, "b");
    assert_eq!(bench.settle(&event(&b, "02")).await?, "already imported");
    let without_version = ObjectPointer { version_id: None, ..b };
    assert_eq!(bench.settle(&pointing(without_version)).await?, "already imported");
    assert_eq!(bench.ledger().await?, ["imported | already_imported"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_overwritten_before_it_was_read_is_imported_as_it_is_now() -> Result<()> {
    let bench = bench(Shelf::default()).await?;
    let a = bench.shelf.put("k", &row("a"));
    let b = bench.shelf.put("k", &row("b"));
    assert_eq!(bench.settle(&event(&a, "01")).await?, IMPORTED);
    assert_eq!(value(&bench).await?, "b");
    assert_eq!(bench.ledger().await?, ["superseded | overwritten", "imported | ∅"]);
    assert_eq!(bench.settle(&event(&b, "02")).await?, "already imported");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_there_is_gone() -> Result<()> {
    let bench = bench(Shelf::default()).await?;
    let a = bench.shelf.put("k", &row("a"));
    bench.shelf.delete("k");
    assert_eq!(bench.settle(&event(&a, "01")).await?, "gone");
    assert_eq!(bench.settle(&pointing(ObjectPointer::new(BUCKET, "other"))).await?, "gone");
    assert_eq!(bench.ledger().await?, ["gone | ∅", "gone | ∅"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_put_between_two_looks_leaves_nothing_unsettled() -> Result<()> {
    // Found by the torture test: the first look found nothing and was left as «importing».
    let bench = bench(Shelf::default()).await?;
    let pointer = pointing(ObjectPointer::new(BUCKET, "k"));
    let put_meanwhile = async {
        let first_look = "SELECT count(*) FROM penstock.object";
        wait::until("the first look", Duration::from_secs(30), || async {
            Ok((bench.database.value(first_look).await? == "1").then_some(()))
        })
        .await?;
        bench.shelf.put("k", &row("a"));
        anyhow::Ok(())
    };
    let (settled, put) = tokio::join!(bench.settle(&pointer), put_meanwhile);
    put?;
    assert_eq!(settled?, IMPORTED);
    assert_eq!(bench.ledger().await?, ["gone | ∅", "imported | ∅"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_never_ends_leaves_what_was_settled() -> Result<()> {
    // Found by the torture test: a worker that stood still while another settled its message began, and was killed.
    let bench = bench(Shelf::versioned()).await?;
    let (older, newer) = (bench.shelf.put("k", &row("older")), bench.shelf.put("k", &row("newer")));
    let late = bench.shelf.put_at("k", &row("late"), 900);
    let broken = bench.shelf.put("broken", &row("broken"));
    for (pointer, sequencer, expected) in
        [(&older, "02", IMPORTED), (&newer, "03", IMPORTED), (&late, "01", "superseded")]
    {
        assert_eq!(bench.settle(&event(pointer, sequencer)).await?, expected);
    }
    begin_and_end(&bench, &broken, State::Failed).await?;

    let settled = ["imported | ∅", "imported | ∅", "superseded | ∅", "failed | ∅"];
    assert_eq!(bench.ledger().await?, settled);
    for pointer in [&older, &newer, &late, &broken] {
        begin_and_end(&bench, pointer, State::Retrying).await?;
    }
    assert_eq!(bench.ledger().await?, settled);
    assert_eq!(bench.rows("SELECT DISTINCT attempts, worker FROM penstock.object").await?, ["2 | other"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_recorded_while_another_settles_the_version_leaves_its_outcome() -> Result<()> {
    // Found by the torture test: the state was taken from the statement's snapshot.
    let bench = bench(Shelf::default()).await?;
    let pointer = bench.shelf.put("k", &row("a"));
    begin_and_end(&bench, &pointer, State::Retrying).await?;
    let mut settling = bench.database.connect().await?;
    settling.execute("BEGIN; UPDATE penstock.object SET state = 'superseded'").await?;
    let settle = async {
        wait::until("the attempt to wait", Duration::from_secs(30), || async {
            let waiting = "SELECT count(*) FROM pg_stat_activity \
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";
            Ok((bench.database.value(waiting).await? == "1").then_some(()))
        })
        .await?;
        settling.execute("COMMIT").await?;
        anyhow::Ok(())
    };
    let (attempt, settled) = tokio::join!(begin_and_end(&bench, &pointer, State::Retrying), settle);
    attempt?;
    settled?;
    assert_eq!(bench.ledger().await?, ["superseded | ∅"]);
    Ok(())
}

/// Records an attempt and how it ended, as a worker does around an import.
async fn begin_and_end(bench: &Bench, pointer: &ObjectPointer, state: State) -> Result<()> {
    let mut connection = bench.database.connect().await?;
    let ObjectPointer { bucket, key, version_id, etag, size, .. } = pointer.clone();
    let attempt = Attempt {
        head: &HeadKey { dataset: "d".into(), bucket, key },
        identity: &Identity { version_id, etag, size },
        stamp: &Stamp { sequencer: None, last_modified: None },
        is_delete: false,
        worker: "other",
        queue_url: None,
        event_time: None,
        delivery: Delivery::default(),
    };
    let recorded = ledger::begin(&mut connection, &attempt).await?;
    let ended =
        Ended { state, reason: None, error: None, forwarded_message_id: None, duration_seconds: None, asked: None };
    ledger::finish_otherwise(&mut connection, recorded.object_id, &ended).await?;
    Ok(())
}
