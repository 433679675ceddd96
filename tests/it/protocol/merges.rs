//! However many rows a new version changes, and so in whatever way its merge meets them, the table ends the same.

use super::bench::{Bench, event, settle};
use anyhow::Result;
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, at int, v text, penstock_object bigint, penstock_row bigint)";
const KEYED: &str = "table = \"public.t\"\nkey = [\"id\"]\ntechnique = \"staged\"";
/// Enough for a sample to be taken.
const ROWS: i32 = 3000;

/// A row: id, at, v.
type Row = (i32, i32, &'static str);

fn body(rows: &[Row]) -> String {
    rows.iter().fold(String::new(), |mut body, (id, at, v)| {
        let _ = writeln!(body, "{{\"id\": {id}, \"at\": {at}, \"v\": \"{v}\"}}");
        body
    })
}

/// Loads ids 0 to 2,999, then `second` as the same object's later version, and compares with a model;
/// returns how many rows were inserted or updated by the second.
async fn check(dataset: &str, second: &[Row]) -> Result<i64> {
    let bench = Bench::new(TABLE, dataset).await?;
    let first: Vec<Row> = (0..ROWS).map(|id| (id, 5, "a")).collect();
    assert_eq!(bench.put("k", &body(&first), "01").await?, format!("imported {ROWS} = {ROWS} + 0 + 0"));
    bench.database.execute("CREATE TABLE before AS SELECT xmin::text AS at_first FROM public.t LIMIT 1").await?;

    let by_newer = dataset.contains("newer");
    let mut model: BTreeMap<i32, Row> = first.iter().map(|row| (row.0, *row)).collect();
    let mut own: BTreeMap<i32, Row> = BTreeMap::new();
    for row in second {
        let won = own.get(&row.0).is_none_or(|earlier| !by_newer || row.1 >= earlier.1);
        if won {
            own.insert(row.0, *row);
        }
    }
    let mut n_standing = 0;
    for (id, row) in &own {
        if model.get(id).is_none_or(|there| !by_newer || row.1 >= there.1) {
            model.insert(*id, *row);
            n_standing += 1;
        }
    }
    // Other bytes also where the rows are the same.
    let said = bench.put("k", &body(second).replace("{\"id\"", "{ \"id\""), "02").await?;
    let n_merged = second.len() - n_standing;
    assert_eq!(said, format!("imported {} = {n_standing} + {n_merged} + 0", second.len()));
    let expected: Vec<String> = model.values().map(|(id, at, v)| format!("{id} | {at} | {v}")).collect();
    assert_eq!(bench.rows("SELECT id, at, v FROM t ORDER BY id").await?, expected);
    // Rows that changed, and only those, are said to come from the second version.
    let misplaced = "SELECT count(*) FROM t, before, penstock.object o WHERE o.id = t.penstock_object
        AND (t.xmin::text = at_first) <> (o.sequencer = '01')";
    assert_eq!(bench.rows(misplaced).await?, ["0"]);
    let touched = "SELECT count(*) FROM t, before WHERE t.xmin::text <> at_first";
    Ok(bench.database.value(touched).await?.parse()?)
}

/// The second version: so many of a hundred rows change, and ids from `from` on for as many rows.
fn version(percent: i32, from: i32) -> Vec<Row> {
    (from..from + ROWS).map(|id| if id % 100 < percent { (id, 6, "b") } else { (id, 5, "a") }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_rows_that_change_are_written_however_many() -> Result<()> {
    for dataset in [KEYED.to_owned(), format!("{KEYED}\nnewer = \"at\"")] {
        for percent in [0, 10, 50, 90, 100] {
            assert_eq!(check(&dataset, &version(percent, 0)).await?, i64::from(ROWS * percent / 100), "{percent} %");
        }
        // Half of the keys are new.
        assert_eq!(check(&dataset, &version(100, ROWS / 2)).await?, i64::from(ROWS));
        // A few are new, all others change.
        assert_eq!(check(&dataset, &version(100, 30)).await?, i64::from(ROWS));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_come_twice_are_settled_however_rows_are_met() -> Result<()> {
    for dataset in [KEYED.to_owned(), format!("{KEYED}\nnewer = \"at\"")] {
        for percent in [0, 100] {
            let mut rows = version(percent, 0);
            // The first and the last of a key, in one run and far apart.
            rows.extend([(7, 6, "late"), (8, 4, "late and older"), (9, 5, "a"), (4000, 1, "x"), (4000, 2, "y")]);
            check(&dataset, &rows).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn older_rows_change_nothing_however_many() -> Result<()> {
    let older: Vec<Row> = (0..ROWS).map(|id| (id, 4, "b")).collect();
    assert_eq!(check(&format!("{KEYED}\nnewer = \"at\""), &older).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_goes_away_under_an_update_is_inserted() -> Result<()> {
    let bench = Bench::new(TABLE, KEYED).await?;
    bench.put("k", &body(&version(0, 0)), "01").await?;
    let mut other = bench.database.connect().await?;
    sqlx::raw_sql("BEGIN; DELETE FROM public.t WHERE id = 1234").execute(&mut other).await?;
    let record = event(&bench.shelf.put("k", &body(&version(100, 0))), "02");
    let worker = bench.worker("two", Duration::from_secs(60))?;
    let importing = tokio::spawn(async move { settle(&worker, &record).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE%'
        AND datname = current_database() AND pid <> pg_backend_pid()";
    penstock_tests::wait::until("the merge to wait", Duration::from_secs(60), || async {
        Ok((bench.database.value(waiting).await? == "1").then_some(()))
    })
    .await?;
    sqlx::raw_sql("COMMIT").execute(&mut other).await?;
    assert_eq!(importing.await??, format!("imported {ROWS} = {ROWS} + 0 + 0"));
    assert_eq!(bench.rows("SELECT count(*), min(v), max(v) FROM t").await?, [format!("{ROWS} | b | b")]);
    Ok(())
}
