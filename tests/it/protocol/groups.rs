//! Small objects that share a transaction keep fates of their own.

use super::bench::{Bench, event, forced, import_group, said, settle};
use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use importer::{import::Importer, message::Record};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, v int CHECK (v > 0),
    penstock_object bigint, penstock_row bigint, penstock_loaded_at timestamptz)";
const DATASET: &str = "table = \"public.t\"\nkey = [\"id\"]";
const TECHNIQUES: &str = "SELECT technique, count(*) FROM penstock.object GROUP BY technique ORDER BY technique";

/// Returns a body of two rows.
fn body(first_id: u64, v: i64) -> String {
    format!("{{\"id\": {}, \"v\": {v}}}\n{{\"id\": {first_id}, \"v\": {v}}}\n", first_id + 1)
}

/// Puts objects of two rows each, ids ascending from object to object.
fn put(bench: &Bench, n_objects: u64, v: i64) -> Vec<Record> {
    let put = |index: u64| event(&bench.shelf.put(&format!("k{index:03}"), &body(2 * index, v)), "01");
    (0..n_objects).map(put).collect()
}

/// Settles records together, and says of each how, or that it is left alone.
async fn together(importer: &Importer, records: &[Record]) -> Result<Vec<String>> {
    let settled = import_group(importer, records).await?;
    Ok(settled.iter().map(|settled| settled.as_ref().map_or("alone".into(), said)).collect())
}

#[tokio::test]
async fn objects_load_together_and_each_has_its_own_entry() -> Result<()> {
    let bench = Bench::new(TABLE, DATASET).await?;
    let records = put(&bench, 5, 7);
    assert_eq!(together(bench.importer(), &records).await?, vec!["imported 2 = 2 + 0 + 0"; 5]);
    assert_eq!(bench.rows("SELECT count(*), count(DISTINCT xmin::text) FROM t").await?, ["10 | 1"]);
    let astray = "SELECT count(*) FROM t JOIN penstock.object_status s ON s.id = t.penstock_object
        WHERE s.key <> 'k' || to_char(t.id / 2, 'FM000') OR penstock_row <> 2 - t.id % 2
           OR penstock_loaded_at IS DISTINCT FROM (SELECT max(penstock_loaded_at) FROM t)
           OR abs(extract(epoch FROM s.imported_at - penstock_loaded_at)) > 60";
    assert_eq!(bench.rows(astray).await?, ["0"]);
    assert_eq!(bench.rows(TECHNIQUES).await?, ["grouped | 5"]);
    assert_eq!(
        bench.rows("SELECT sum(rows_read), sum(rows_written), sum(bytes) > 0 FROM penstock.object").await?,
        ["10 | 10 | true"]
    );

    let before = bench.rows("SELECT id, xmin::text, ctid::text FROM t ORDER BY id").await?;
    assert_eq!(together(bench.importer(), &records).await?, vec!["already imported"; 5]);
    assert_eq!(bench.rows("SELECT id, xmin::text, ctid::text FROM t ORDER BY id").await?, before);
    assert_eq!(bench.ledger().await?, vec!["imported | already_imported"; 5]);
    Ok(())
}

#[tokio::test]
async fn a_ledger_that_grows_under_a_connection_is_read_by_its_indexes() -> Result<()> {
    const N_OBJECTS: u64 = 1000;
    let bench = Bench::new(TABLE, DATASET).await?;
    for group in put(&bench, N_OBJECTS, 7).chunks(20) {
        assert_eq!(together(bench.importer(), group).await?, vec!["imported 2 = 2 + 0 + 0"; 20]);
    }
    let counted = "SELECT sum(n_tup_ins)::text, sum(seq_tup_read)::text FROM pg_stat_all_tables
        WHERE schemaname = 'penstock' AND relname IN ('head', 'object')";
    let mut read = None;
    for index in 0..60 {
        // A connection says what it did when a transaction ends, but not more often than once a second.
        tokio::time::sleep(Duration::from_millis(300)).await;
        settle(bench.importer(), &event(&bench.shelf.put(&format!("later{index}"), &body(10_000 + index, 7)), "01"))
            .await?;
        let counts = bench.rows(counted).await?.remove(0);
        let (inserted, rows_read) = counts.split_once(" | ").context("two counts")?;
        if inserted.parse::<u64>()? >= 2 * N_OBJECTS {
            read = Some(rows_read.parse::<u64>()?);
            break;
        }
    }
    let read = read.context("the connection never said what it did")?;
    // Each of fifty groups would read all that was loaded before it, in several statements.
    assert!(read < 2 * N_OBJECTS, "{read} entries read one after the other");
    Ok(())
}

#[tokio::test]
async fn what_is_out_of_the_ordinary_is_left_alone() -> Result<()> {
    let bench = Bench::new(TABLE, &format!("{DATASET}\nmax_rejects = 1")).await?;
    let mut records = put(&bench, 4, 7);
    records.push(event(&bench.shelf.put("rejects", "{\"id\": 100, \"v\": 1}\n{\"id\": \"x\"}\n"), "01"));
    records.push(event(&bench.shelf.put("corrupt", "\u{1f}\u{8b}nothing"), "01"));
    records.push(forced(event(&bench.shelf.put("twice", &body(200, 1)), "01")));
    records.push(event(&bench.shelf.put("twice", &body(200, 1)), "01"));
    bench.put("k000", &body(0, 3), "02").await?;
    let imported = "imported 2 = 2 + 0 + 0";
    assert_eq!(
        together(bench.importer(), &records).await?,
        ["alone", imported, imported, imported, "alone", "alone", imported, "alone"]
    );
    assert_eq!(bench.rows("SELECT count(*), count(*) FILTER (WHERE v = 3) FROM t").await?, ["10 | 2"]);
    assert_eq!(settle(bench.importer(), &records[0]).await?, "superseded");
    assert_eq!(settle(bench.importer(), &records[4]).await?, "imported 2 = 1 + 0 + 1");
    Ok(())
}

#[tokio::test]
async fn a_key_in_two_objects_or_in_the_table_leaves_all_alone() -> Result<()> {
    let bench = Bench::new(TABLE, DATASET).await?;
    let mut records = put(&bench, 3, 7);
    records.push(event(&bench.shelf.put("overlaps", &body(3, 8)), "01"));
    assert_eq!(together(bench.importer(), &records).await?, vec!["alone"; 4]);
    assert_eq!(bench.rows("SELECT count(*) FROM t").await?, ["0"]);

    bench.database.execute("INSERT INTO t VALUES (5, 1)").await?;
    assert_eq!(together(bench.importer(), &records[..3]).await?, vec!["alone"; 3]);
    assert_eq!(bench.rows("SELECT id, v FROM t").await?, ["5 | 1"]);
    for record in &records {
        assert_eq!(settle(bench.importer(), record).await?, "imported 2 = 2 + 0 + 0");
    }
    assert_eq!(
        bench.rows("SELECT id, v FROM t ORDER BY id").await?,
        ["0 | 7", "1 | 7", "2 | 7", "3 | 8", "4 | 8", "5 | 7"]
    );
    Ok(())
}

#[tokio::test]
async fn a_row_the_server_refuses_leaves_all_alone() -> Result<()> {
    let bench = Bench::new(TABLE, DATASET).await?;
    let mut records = put(&bench, 3, 7);
    records.push(event(&bench.shelf.put("refused", &body(50, -1)), "01"));
    assert_eq!(together(bench.importer(), &records).await?, vec!["alone"; 4]);
    assert_eq!(bench.rows("SELECT count(*) FROM t").await?, ["0"]);
    assert_eq!(settle(bench.importer(), &records[0]).await?, "imported 2 = 2 + 0 + 0");
    Ok(())
}

#[tokio::test]
async fn rows_a_trigger_leaves_out_are_counted_as_alone() -> Result<()> {
    let tables = format!(
        "{TABLE}; CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RETURN CASE WHEN NEW.id % 2 = 0 THEN NEW END; END $$;
         CREATE TRIGGER leave_out BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION leave_out()"
    );
    let bench = Bench::new(&tables, &DATASET.replace("key = [\"id\"]", "mode = \"append\"")).await?;
    let records = put(&bench, 3, 7);
    assert_eq!(together(bench.importer(), &records).await?, vec!["alone"; 3]);
    for record in &records {
        assert_eq!(settle(bench.importer(), record).await?, "imported 2 = 1 + 0 + 0");
    }
    assert_eq!(bench.rows("SELECT rows_filtered FROM penstock.object_status").await?, ["1"; 3]);
    assert_eq!(bench.rows("SELECT id FROM t ORDER BY id").await?, ["0", "2", "4"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_that_came_to_stand_meanwhile_makes_room() -> Result<()> {
    let dataset = DATASET.replace("key = [\"id\"]", "mode = \"replace\"");
    let bench =
        Bench::with_shelf(super::shelf::Shelf::versioned(), &TABLE.replace("PRIMARY KEY", ""), &dataset).await?;
    let other = bench.worker("two", Duration::from_secs(10))?;
    let older = event(&bench.shelf.put("k", &body(10, 1)), "01");
    let newer = bench.shelf.put("k", &body(20, 2));
    let neighbour = bench.shelf.put("n", &body(30, 1));
    // The bodies of the newer version and of the older begin together, after the group has looked at the ledger.
    bench.shelf.meet(&[&older.pointer, &newer]);
    let records = [event(&newer, "02"), event(&neighbour, "01")];
    let (grouped, alone) = tokio::join!(together(bench.importer(), &records), settle(&other, &older));
    for (record, said) in records.iter().zip(grouped?) {
        if said == "alone" {
            settle(bench.importer(), record).await?;
        }
    }
    let alone = alone?;
    assert!(alone == "superseded" || alone == "imported 2 = 2 + 0 + 0", "{alone}");
    assert_eq!(bench.rows("SELECT id, v FROM t ORDER BY id").await?, ["20 | 2", "21 | 2", "30 | 1", "31 | 1"]);
    Ok(())
}

#[tokio::test]
async fn a_row_twice_in_its_object_is_settled_there() -> Result<()> {
    let bench = Bench::new(TABLE, DATASET).await?;
    let mut records = put(&bench, 2, 7);
    let twice = "{\"id\": 9, \"v\": 1}\n{\"id\": 8, \"v\": 1}\n{\"id\": 9, \"v\": 2}\n";
    records.push(event(&bench.shelf.put("twice", twice), "01"));
    let imported = "imported 2 = 2 + 0 + 0";
    assert_eq!(together(bench.importer(), &records).await?, [imported, imported, "imported 3 = 2 + 1 + 0"]);
    assert_eq!(
        bench.rows("SELECT id, v, penstock_row FROM t WHERE id >= 8 ORDER BY id").await?,
        ["8 | 1 | 2", "9 | 2 | 3"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_groups_that_overlap_each_object_is_imported_once() -> Result<()> {
    let bench = Bench::new(TABLE, &DATASET.replace("key = [\"id\"]", "mode = \"append\"")).await?;
    let workers: Vec<Importer> =
        ["two", "three", "four"].iter().map(|id| bench.worker(id, Duration::from_secs(10))).collect::<Result<_>>()?;
    for round in 0..20u64 {
        let mut records = Vec::new();
        for index in 0..6u64 {
            let (id, key) = (100 * round + 2 * index, format!("r{round:02}-{index}"));
            records.push(event(&bench.shelf.put(&key, &body(id, 1)), "01"));
        }
        let lanes = workers.iter().enumerate().map(|(lane, worker)| {
            let own: Vec<Record> = records.iter().cycle().skip(lane).take(4).cloned().collect();
            async move {
                // Who finds another in the way takes its objects one by one, as a worker would.
                let together = together(worker, &own).await.unwrap_or_else(|_| vec!["alone".into(); own.len()]);
                for (record, said) in own.iter().zip(together) {
                    if said == "alone" {
                        settle(worker, record).await?;
                    }
                }
                anyhow::Ok(())
            }
        });
        try_join_all(lanes).await?;
    }
    assert_eq!(bench.rows("SELECT count(*), count(DISTINCT id) FROM t").await?, ["240 | 240"]);
    let ledger = "SELECT state, count(*), sum(rows_written) FROM penstock.object_status GROUP BY state";
    assert_eq!(bench.rows(ledger).await?, ["imported | 120 | 240"]);
    Ok(())
}
