//! Replace and append: what a version's rows replace, and what force does.

use super::{
    bench::{Bench, event, forced, settle},
    shelf::Shelf,
};
use anyhow::Result;
use std::time::Duration;

const LINEAGE: &str = "CREATE TABLE t (id int, v text, penstock_object bigint)";
const PLAIN: &str = "CREATE TABLE t (id int, v text)";
const REPLACE: &str = "table = \"public.t\"\nmode = \"replace\"";
const APPEND: &str = "table = \"public.t\"\nmode = \"append\"";

fn lines(v: &str, ids: std::ops::Range<u32>) -> String {
    ids.map(|id| format!("{{\"id\": {id}, \"v\": \"{v}\"}}\n")).collect()
}

async fn table(bench: &Bench) -> Result<Vec<String>> {
    bench.rows("SELECT id, v FROM t ORDER BY id, v").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_replaces_every_row_of_its_key_and_no_other() -> Result<()> {
    let bench = Bench::new(LINEAGE, REPLACE).await?;
    bench.put("other", &lines("o", 9..10), "01").await?;
    assert_eq!(bench.put("k", &lines("a", 1..4), "01").await?, "imported 3 = 3 + 0 + 0");
    assert_eq!(bench.put("k", &lines("b", 3..5), "02").await?, "imported 2 = 2 + 0 + 0");
    assert_eq!(table(&bench).await?, ["3 | b", "4 | b", "9 | o"]);
    let b = bench.shelf.put("k", &lines("b", 3..5));
    assert_eq!(bench.settle(&forced(event(&b, "02"))).await?, "imported 2 = 2 + 0 + 0");
    assert_eq!(table(&bench).await?, ["3 | b", "4 | b", "9 | o"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn append_never_appends_a_version_twice() -> Result<()> {
    let bench = Bench::new(PLAIN, APPEND).await?;
    for (v, sequencer, said) in
        [("a", "01", "imported 1 = 1 + 0 + 0"), ("b", "02", "imported 1 = 1 + 0 + 0"), ("a", "03", "already imported")]
    {
        assert_eq!(bench.put("k", &lines(v, 1..2), sequencer).await?, said);
    }
    assert_eq!(table(&bench).await?, ["1 | a", "1 | b"]);
    assert_eq!(bench.heads().await?, [format!("k | etag of {}", lines("a", 1..2))], "A is the newest again");
    assert_eq!(bench.put("k", &lines("c", 1..2), "025").await?, "superseded");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn append_asks_under_the_lock_whether_a_version_was_appended() -> Result<()> {
    let bench = Bench::with_shelf(Shelf::versioned(), PLAIN, APPEND).await?;
    let (a, b) = (bench.shelf.put("k", &lines("a", 1..2)), bench.shelf.put("k", &lines("b", 1..2)));
    let read = async |worker: &str, sequencer: &str| {
        let (gate, worker) = (bench.shelf.gate(&a), bench.worker(worker, Duration::from_secs(10))?);
        let record = event(&a, sequencer);
        let reading = tokio::spawn(async move { settle(&worker, &record).await });
        gate.reached().await;
        anyhow::Ok((gate, reading))
    };
    // Neither finds it imported, and each reads it.
    let (first_gate, first) = read("first", "01").await?;
    let (late_gate, late) = read("late", "03").await?;
    first_gate.open();
    assert_eq!(first.await??, "imported 1 = 1 + 0 + 0");
    assert_eq!(bench.settle(&event(&b, "02")).await?, "imported 1 = 1 + 0 + 0");
    late_gate.open();
    assert_eq!(late.await??, "already imported");
    assert_eq!(table(&bench).await?, ["1 | a", "1 | b"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_replay_in_append_replaces_the_rows_of_that_version() -> Result<()> {
    let bench = Bench::new(LINEAGE, APPEND).await?;
    bench.put("k", &lines("a", 1..3), "01").await?;
    bench.database.execute("DELETE FROM t WHERE id = 1").await?;
    let b = bench.shelf.put("k", &lines("b", 1..3));
    bench.settle(&event(&b, "02")).await?;
    bench.database.execute("UPDATE t SET v = 'spoilt' WHERE v = 'b'").await?;
    assert_eq!(bench.settle(&forced(event(&b, "02"))).await?, "imported 2 = 2 + 0 + 0");
    assert_eq!(table(&bench).await?, ["1 | b", "2 | a", "2 | b"], "A's rows are as they were");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_replay_in_append_without_lineage_is_refused() -> Result<()> {
    let bench = Bench::new(PLAIN, APPEND).await?;
    let a = bench.shelf.put("k", &lines("a", 1..2));
    bench.settle(&event(&a, "01")).await?;
    let said = bench.settle(&forced(event(&a, "01"))).await?;
    assert!(said.starts_with("failed(force_refused)"), "{said}");
    assert_eq!(table(&bench).await?, ["1 | a"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replace_without_lineage_is_a_wrong_schema() -> Result<()> {
    let bench = Bench::new(PLAIN, REPLACE).await?;
    let said = bench.put("k", &lines("a", 1..2), "01").await?;
    assert!(said.starts_with("failed(schema)"), "{said}");
    Ok(())
}
