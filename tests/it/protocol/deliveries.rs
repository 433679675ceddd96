//! When the message came that led to what the ledger says of a version.

use super::bench::{Bench, event, forced, import_group, removal, said, settle};
use anyhow::Result;
use chrono::DateTime;
use importer::message::{Delivery, ObjectPointer, Record};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, penstock_object bigint)";
const DATASET: &str = "table = \"public.t\"\nkey = [\"id\"]\non_delete = \"remove\"";
const TIMES: &str = "SELECT extract(epoch FROM sent_at)::int, extract(epoch FROM first_received_at)::int \
    FROM penstock.object_status ORDER BY id";

/// Returns a record as of a message that was sent in this second and first received in the next.
fn sent_in(second: i64, record: Record) -> Record {
    let at = |second| DateTime::from_timestamp(second, 0);
    Record { delivery: Delivery { sent_at: at(second), first_received_at: at(second + 1) }, ..record }
}

fn body(id: u32) -> String {
    format!("{{\"id\": {id}}}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_has_the_times_of_the_message_that_imported_it() -> Result<()> {
    let bench = Bench::new(TABLE, DATASET).await?;
    let a = bench.shelf.put("k", &body(1));
    assert_eq!(bench.settle(&sent_in(10, event(&a, "01"))).await?, "imported 1 = 1 + 0 + 0");
    assert_eq!(bench.settle(&sent_in(20, event(&a, "01"))).await?, "already imported");
    assert_eq!(bench.rows(TIMES).await?, ["10 | 11"], "the same event again");
    assert_eq!(bench.settle(&sent_in(30, forced(event(&a, "01")))).await?, "imported 1 = 1 + 0 + 0");
    assert_eq!(bench.rows(TIMES).await?, ["30 | 31"], "imported again because of another message");
    bench.settle(&forced(event(&a, "01"))).await?;
    assert_eq!(bench.rows(TIMES).await?, ["∅ | ∅"], "and without one");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_at_work_on_a_version_the_one_counts_that_imports_it() -> Result<()> {
    let bench = Bench::new(TABLE, DATASET).await?;
    let a = bench.shelf.put("k", &body(1));
    let begin = async |pointer: ObjectPointer, second| {
        let gate = bench.shelf.gate(&pointer);
        let worker = bench.worker("another", Duration::from_secs(10))?;
        let settled = tokio::spawn(async move { settle(&worker, &sent_in(second, event(&pointer, "01"))).await });
        gate.reached().await;
        anyhow::Ok((gate, settled))
    };
    let (first, imports) = begin(a.clone(), 10).await?;
    let (second, comes_late) = begin(a, 20).await?;
    assert_eq!(bench.rows(TIMES).await?, ["20 | 21"], "nothing is done yet: as of the latest attempt");
    first.open();
    assert_eq!(imports.await??, "imported 1 = 1 + 0 + 0");
    assert_eq!(bench.rows(TIMES).await?, ["10 | 11"]);
    second.open();
    assert_eq!(comes_late.await??, "already imported");
    assert_eq!(bench.rows(TIMES).await?, ["10 | 11"]);
    Ok(())
}

#[tokio::test]
async fn objects_that_load_together_came_by_messages_of_their_own() -> Result<()> {
    let bench = Bench::new(TABLE, DATASET).await?;
    let put = |id: u32| event(&bench.shelf.put(&format!("k{id}"), &body(id)), "01");
    let events = [put(1), put(2), put(3)];
    let together = async |seconds: [i64; 3]| {
        let records: Vec<Record> = events.iter().zip(seconds).map(|(event, s)| sent_in(s, event.clone())).collect();
        let settled = import_group(bench.importer(), &records).await?;
        anyhow::Ok(settled.iter().map(|settled| settled.as_ref().map_or("alone".into(), said)).collect::<Vec<_>>())
    };
    assert_eq!(together([10, 20, 30]).await?, vec!["imported 1 = 1 + 0 + 0"; 3]);
    assert_eq!(bench.rows(TIMES).await?, ["10 | 11", "20 | 21", "30 | 31"]);
    assert_eq!(together([40, 50, 60]).await?, vec!["already imported"; 3]);
    assert_eq!(bench.rows(TIMES).await?, ["10 | 11", "20 | 21", "30 | 31"]);
    Ok(())
}

#[tokio::test]
async fn a_removal_has_the_times_of_its_own_message() -> Result<()> {
    let bench = Bench::new(TABLE, DATASET).await?;
    let put = |sequencer| event(&bench.shelf.put("k", &body(1)), sequencer);
    bench.settle(&sent_in(10, put("01"))).await?;
    bench.shelf.delete("k");
    assert_eq!(bench.settle(&sent_in(20, removal("k", "02"))).await?, "removed 1");
    assert_eq!(bench.settle(&sent_in(30, removal("k", "02"))).await?, "removed 0");
    assert_eq!(bench.rows(TIMES).await?, ["10 | 11", "20 | 21"]);
    bench.settle(&sent_in(40, put("03"))).await?;
    assert_eq!(bench.rows(TIMES).await?, ["40 | 41", "20 | 21"], "the same bytes were put again");
    bench.shelf.delete("k");
    assert_eq!(bench.settle(&sent_in(50, removal("k", "04"))).await?, "removed 1");
    assert_eq!(bench.rows(TIMES).await?, ["40 | 41", "50 | 51"]);
    Ok(())
}
