//! Two at once.

use super::{
    bench::{Bench, event, settle},
    shelf::Shelf,
};
use anyhow::Result;
use futures_util::future::{join_all, try_join_all};
use importer::import::Importer;
use std::time::Duration;

const ROUNDS: usize = 1000;
/// Keys raced for at the same time; each takes two connections.
const AT_ONCE: usize = 8;
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Races version 1 against version 2 of a key. Both have looked at the ledger when both bodies begin.
async fn race(bench: &Bench, workers: [&Importer; 2], round: usize) -> Result<()> {
    let key = format!("k{round:04}");
    let body = |version: u32| {
        format!("{{\"id\": {round}, \"v\": {version}}}\n{{\"id\": {}, \"v\": {version}}}\n", round + 10_000)
    };
    let (older, newer) = (bench.shelf.put(&key, &body(1)), bench.shelf.put(&key, &body(2)));
    bench.shelf.meet(&[&older, &newer]);
    let (older, newer) = (event(&older, "01"), event(&newer, "02"));
    let (first, second) = tokio::join!(settle(workers[round % 2], &older), settle(workers[(round + 1) % 2], &newer));
    let (first, second) = (first?, second?);
    assert!(first == "superseded" || first == "imported 2 = 2 + 0 + 0", "{first}");
    assert_eq!(second, "imported 2 = 2 + 0 + 0");
    Ok(())
}

async fn race_all(tables: &str, dataset: &str) -> Result<Bench> {
    let bench = Bench::with_shelf(Shelf::versioned(), tables, dataset).await?;
    let workers = [bench.worker("two", LOCK_TIMEOUT)?, bench.worker("three", LOCK_TIMEOUT)?];
    let lanes = (0..AT_ONCE).map(|lane| {
        let (bench, workers) = (&bench, [&workers[0], &workers[1]]);
        async move {
            for round in (lane..ROUNDS).step_by(AT_ONCE) {
                race(bench, workers, round).await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(lanes).await?;
    let stands = "SELECT count(*) FROM penstock.head h JOIN penstock.object o ON o.id = h.object_id \
                  WHERE o.sequencer = '02' AND o.state = 'imported'";
    assert_eq!(bench.database.value(stands).await?, ROUNDS.to_string());
    Ok(bench)
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_of_two_raced_versions_stands_in_upsert() -> Result<()> {
    let bench =
        race_all("CREATE TABLE t (id bigint PRIMARY KEY, v int)", "table = \"public.t\"\nkey = [\"id\"]").await?;
    assert_eq!(bench.rows("SELECT v, count(*) FROM t GROUP BY v").await?, ["2 | 2000"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_of_two_raced_versions_stands_in_replace() -> Result<()> {
    let table = "CREATE TABLE t (id bigint, v int, penstock_object bigint); CREATE INDEX ON t (penstock_object)";
    let bench = race_all(table, "table = \"public.t\"\nmode = \"replace\"").await?;
    assert_eq!(bench.rows("SELECT v, count(*) FROM t GROUP BY v").await?, ["2 | 2000"]);
    let strangers = "SELECT count(*) FROM t WHERE penstock_object NOT IN (SELECT object_id FROM penstock.head)";
    assert_eq!(bench.database.value(strangers).await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_of_two_raced_versions_stands_in_append() -> Result<()> {
    let table = "CREATE TABLE t (id bigint, v int, penstock_object bigint)";
    let bench = race_all(table, "table = \"public.t\"\nmode = \"append\"").await?;
    assert_eq!(bench.database.value("SELECT count(*) FROM t WHERE v = 2").await?, "2000");
    // The older one is there twice a round when it came first, and not at all when it came last.
    let odd = "SELECT count(*) FROM penstock.object o LEFT JOIN t ON t.penstock_object = o.id WHERE o.sequencer = '01' \
               GROUP BY o.id, o.state HAVING count(t.id) <> CASE o.state WHEN 'imported' THEN 2 ELSE 0 END";
    assert_eq!(bench.rows(odd).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_importers_of_one_version_exactly_one_imports() -> Result<()> {
    for mode in ["upsert", "append"] {
        let bench = Bench::new(
            "CREATE TABLE t (id bigint PRIMARY KEY)",
            &format!("table = \"public.t\"\nkey = [\"id\"]\nmode = \"{mode}\""),
        )
        .await?;
        let workers = ["a", "b", "c", "d", "e"].map(|id| bench.worker(id, LOCK_TIMEOUT));
        let workers = workers.into_iter().collect::<Result<Vec<_>>>()?;
        for round in 0..20 {
            let put = bench.shelf.put(&format!("k{round}"), &format!("{{\"id\": {round}}}\n"));
            let record = event(&put, "01");
            let outcomes = join_all(workers.iter().map(|worker| settle(worker, &record))).await;
            let mut outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
            outcomes.sort();
            assert_eq!(outcomes[..4], ["already imported"; 4], "{mode}");
            assert_eq!(outcomes[4], "imported 1 = 1 + 0 + 0", "{mode}");
        }
        assert_eq!(bench.database.value("SELECT count(*) FROM t").await?, "20");
        assert_eq!(bench.rows("SELECT DISTINCT state FROM penstock.object_status").await?, ["imported"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_with_the_same_rows_in_opposite_order_both_load() -> Result<()> {
    // Each row takes its time, so that the two are at it together.
    let table = "CREATE TABLE t (id int PRIMARY KEY, v int);
        CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END';
        CREATE TRIGGER dawdle BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION dawdle()";
    let bench = Bench::new(table, "table = \"public.t\"\nkey = [\"id\"]").await?;
    let other = bench.worker("two", LOCK_TIMEOUT)?;
    let line = |id: usize, v: usize| format!("{{\"id\": {id}, \"v\": {v}}}\n");
    for round in 0..10 {
        let (up, down) = (2 * round, 2 * round + 1);
        let forth: String = (0..100).map(|id| line(id, up)).collect();
        let back: String = (0..100).rev().map(|id| line(id, down)).collect();
        let (forth, back) = (bench.shelf.put("forth", &forth), bench.shelf.put("back", &back));
        bench.shelf.meet(&[&forth, &back]);
        let sequencer = format!("{round:02}");
        let forth = bench.importer().router.route(event(&forth, &sequencer));
        let back = other.router.route(event(&back, &sequencer));
        // Not `settle`: a deadlock would be tried again there.
        let (one, two) = tokio::join!(bench.importer().import(&forth, None), other.import(&back, None));
        for settled in [one, two] {
            let settled = settled.map_err(|held| held.error.context("held"))?;
            assert_eq!(super::bench::said(&settled), "imported 100 = 100 + 0 + 0");
        }
        let values = bench.rows("SELECT DISTINCT v FROM t").await?;
        assert!(values == [up.to_string()] || values == [down.to_string()], "one of them came last: {values:?}");
    }
    Ok(())
}
