//! Removed objects.

use super::bench::{Bench, event, pointing, removal, settle};
use anyhow::Result;
use importer::message::{ObjectPointer, Record, RecordKind};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, penstock_object bigint)";
const REMOVE: &str = "table = \"public.t\"\nkey = [\"id\"]\non_delete = \"remove\"";
const KEEP: &str = "table = \"public.t\"\nkey = [\"id\"]";
const A: &str = "{\"id\": 1, \"v\": \"a\"}\n{\"id\": 2, \"v\": \"a\"}\n";
const B: &str = "{\"id\": 1, \"v\": \"b\"}\n";
const N_ROWS: &str = "SELECT count(*) FROM t";

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_takes_the_rows_and_leaves_a_tombstone() -> Result<()> {
    let bench = Bench::new(TABLE, REMOVE).await?;
    let a = bench.shelf.put("k", A);
    bench.settle(&event(&a, "01")).await?;
    bench.shelf.delete("k");
    assert_eq!(bench.settle(&removal("k", "02")).await?, "removed 2");
    assert_eq!(bench.database.value(N_ROWS).await?, "0");
    assert_eq!(bench.ledger().await?, ["gone | removed", "gone | removed"]);
    assert_eq!(bench.settle(&removal("k", "02")).await?, "removed 0", "delivered again");
    // A late create reads nothing and changes nothing; a new one imports.
    assert_eq!(bench.settle(&event(&a, "01")).await?, "superseded");
    assert_eq!(bench.put("k", A, "03").await?, "imported 2 = 2 + 0 + 0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_is_as_new_as_the_last_removal() -> Result<()> {
    let bench = Bench::new(TABLE, REMOVE).await?;
    bench.put("k", A, "01").await?;
    bench.shelf.delete("k");
    bench.settle(&removal("k", "02")).await?;
    bench.put("k", A, "03").await?;
    let late = bench.shelf.put("k", B);
    let gate = bench.shelf.gate(&late);
    let worker = bench.worker("late", Duration::from_secs(10))?;
    let late = tokio::spawn(async move { settle(&worker, &event(&late, "04")).await });
    gate.reached().await;
    bench.shelf.delete("k");
    assert_eq!(bench.settle(&removal("k", "05")).await?, "removed 2");
    gate.open();
    assert_eq!(late.await??, "superseded");
    assert_eq!(bench.settle(&removal("k", "02")).await?, "superseded", "an old removal");
    assert_eq!(bench.rows("SELECT state FROM penstock.object_status WHERE sequencer = '05'").await?, ["gone"]);
    assert_eq!(bench.database.value(N_ROWS).await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_read_before_the_removal_does_not_bring_the_object_back() -> Result<()> {
    let bench = Bench::new(TABLE, REMOVE).await?;
    let a = bench.shelf.put("k", A);
    let gate = bench.shelf.gate(&a);
    let worker = bench.worker("late", Duration::from_secs(10))?;
    let late = tokio::spawn(async move { settle(&worker, &pointing(a)).await });
    gate.reached().await;
    bench.shelf.delete("k");
    assert_eq!(bench.settle(&removal("k", "02")).await?, "removed 0");
    gate.open();
    assert_eq!(late.await??, "superseded");
    assert_eq!(bench.database.value(N_ROWS).await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_there_again_keeps_its_rows() -> Result<()> {
    let bench = Bench::new(TABLE, REMOVE).await?;
    bench.put("k", A, "01").await?;
    bench.shelf.put("k", B);
    assert_eq!(bench.settle(&removal("k", "02")).await?, "superseded");
    assert_eq!(bench.database.value(N_ROWS).await?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_and_put_again_is_appended_again() -> Result<()> {
    let dataset = "table = \"public.t\"\nmode = \"append\"\non_delete = \"remove\"";
    let bench = Bench::new("CREATE TABLE t (id int, v text, penstock_object bigint)", dataset).await?;
    bench.put("k", A, "01").await?;
    bench.shelf.delete("k");
    assert_eq!(bench.settle(&removal("k", "02")).await?, "removed 2");
    assert_eq!(bench.put("k", A, "03").await?, "imported 2 = 2 + 0 + 0");
    assert_eq!(bench.database.value(N_ROWS).await?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_version_that_does_not_stand_changes_nothing() -> Result<()> {
    let bench = Bench::new(TABLE, REMOVE).await?;
    bench.put("k", A, "01").await?;
    bench.shelf.delete("k");
    let record = removal("k", "02");
    let pointer = ObjectPointer { version_id: Some("another".into()), ..record.pointer.clone() };
    assert_eq!(bench.settle(&Record { pointer, ..record }).await?, "superseded");
    assert_eq!(bench.database.value(N_ROWS).await?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn removals_are_skipped_where_rows_are_kept_and_when_a_lifecycle_rule_did_it() -> Result<()> {
    for (dataset, by_lifecycle) in [(KEEP, false), (REMOVE, true)] {
        let bench = Bench::new(TABLE, dataset).await?;
        bench.put("k", A, "01").await?;
        bench.shelf.delete("k");
        let kind = RecordKind::Removed { by_lifecycle, delete_marker: false };
        assert_eq!(bench.settle(&Record { kind, ..removal("k", "02") }).await?, "skipped(event)");
        assert_eq!(bench.database.value(N_ROWS).await?, "2");
        assert_eq!(bench.heads().await?, [format!("k | etag of {A}")]);
    }
    Ok(())
}
