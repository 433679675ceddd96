//! `load`: objects by name, without a queue.

use crate::{desk::Desk, world::LIMIT};
use anyhow::Result;
use penstock_tests::{aws::Account, wait};
use sqlx::Connection as _;
use std::{fmt::Write as _, time::Duration};

/// Enough of them that an object is not loaded together with others.
const ROWS: u64 = 30_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_next_object_is_read_while_one_is_written_but_only_one_is_written() -> Result<()> {
    const HELD: Duration = Duration::from_secs(3);
    for technique in ["direct", "staged"] {
        let dataset = format!(
            "table = \"public.t\"\nmode = \"upsert\"\nkey = [\"id\"]\ntechnique = \"{technique}\"\n\n\
             [worker]\nconcurrency = 1"
        );
        let desk = Desk::new("CREATE TABLE t (id bigint PRIMARY KEY, v text)", &dataset).await?;
        let mut files = Vec::new();
        for file in 0..2 {
            let mut csv = "id,v\n".to_owned();
            for row in 0..ROWS {
                writeln!(csv, "{},value {row}", file * ROWS + row)?;
            }
            files.push(desk.write(&format!("{file}.csv"), csv)?);
        }

        // Whoever writes waits; whoever reads does not.
        let mut connection = desk.database.connect().await?;
        let mut holding = connection.begin().await?;
        sqlx::query("LOCK TABLE t IN EXCLUSIVE MODE").execute(&mut *holding).await?;
        let loading = desk.importer(&["load", &files[0], &files[1]]).start()?;
        desk.wait_for_a_blocked_session().await?;
        wait::until("the next object to be begun", LIMIT, || async {
            let begun = "SELECT count(*) = 2 FROM penstock.object_status WHERE state = 'importing'";
            Ok((desk.database.value(begun).await? == "true").then_some(()))
        })
        .await?;
        // Long enough for it to get to the table.
        tokio::time::sleep(HELD).await;
        let blocked = "SELECT count(*) FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        assert_eq!(desk.database.value(blocked).await?, "1", "{technique}");

        holding.rollback().await?;
        assert!(loading.wait_exit(LIMIT).await?.success(), "{}", loading.stderr());
        let written = format!("imported {ROWS} = {ROWS} + 0 + 0");
        assert_eq!(desk.ledger().await?, [written.as_str(), written.as_str()], "{technique}");
        assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, (2 * ROWS).to_string());
        // The one that waited for the lock took as long; the one that waited for its turn did not.
        let took = format!(
            "SELECT max(duration_seconds) >= {0}, max(duration_seconds) - min(duration_seconds) >= {0} / 2.0 \
             FROM penstock.object_status",
            HELD.as_secs()
        );
        assert_eq!(desk.database.rows(&took).await?, ["true | true"], "{technique}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_and_an_object_in_a_bucket_take_turns_and_the_object_comes_whole_in_parts() -> Result<()> {
    let dataset = "table = \"public.t\"\nmode = \"upsert\"\nkey = [\"id\"]\ntechnique = \"direct\"\n\n\
                   [worker]\nconcurrency = 1\nmemory_mib = 32";
    let desk = Desk::new("CREATE TABLE t (id bigint PRIMARY KEY, v text)", dataset).await?;
    let account = Account::new().await?;
    account.create_bucket("turns", false).await?;
    let csv = |from: u64| {
        // Longer than the two mebibytes that may be read ahead.
        let rows =
            (from..from + 2 * ROWS).map(|id| format!("{id},a value of some fifty characters in row number {id:09}\n"));
        format!("id,v\n{}", rows.collect::<String>())
    };
    let file = desk.write("a.csv", csv(0))?;
    account.put("turns", "b.csv", csv(2 * ROWS)).await?;

    let mut connection = desk.database.connect().await?;
    let mut holding = connection.begin().await?;
    sqlx::query("LOCK TABLE t IN EXCLUSIVE MODE").execute(&mut *holding).await?;
    let loading = desk.importer(&["load", "--dataset", "d", &file, "s3://turns/"]).envs(account.variables()).start()?;
    desk.wait_for_a_blocked_session().await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let blocked = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert_eq!(desk.database.value(blocked).await?, "1");
    holding.rollback().await?;
    assert!(loading.wait_exit(LIMIT).await?.success(), "{}", loading.stderr());
    let whole = "SELECT count(*), bool_and(v = 'a value of some fifty characters in row number ' || lpad(id::text, 9, '0')) FROM t";
    assert_eq!(desk.database.rows(whole).await?, [format!("{} | true", 4 * ROWS)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_sorted_as_the_index_is_not_as_the_key_is_written() -> Result<()> {
    let dataset = "table = \"public.t\"\nmode = \"upsert\"\nkey = [\"n\", \"day\"]\ntechnique = \"direct\"";
    let tables = "CREATE TABLE t (n bigint, day date, v text, UNIQUE (n, day, v), PRIMARY KEY (day, n) INCLUDE (v))";
    let desk = Desk::new(tables, dataset).await?;
    let mut csv = "n,day,v\n".to_owned();
    for n in 0..100 {
        for day in 1..=9 {
            writeln!(csv, "{n},2026-01-0{day},x")?;
        }
    }
    assert_eq!(desk.load("a.csv", csv).await?, 0);
    let sorted = "SELECT count(*), bool_and(ordered) FROM ( \
                  SELECT (day, n) > lag((day, n)) OVER (ORDER BY ctid) IS NOT FALSE AS ordered FROM t) rows";
    assert_eq!(desk.database.rows(sorted).await?, ["900 | true"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn small_objects_that_are_there_already_are_noted_together() -> Result<()> {
    const OBJECTS: u64 = 200;
    let dataset = "table = \"public.t\"\nmode = \"upsert\"\nkey = [\"id\"]";
    let desk = Desk::new("CREATE TABLE t (id bigint PRIMARY KEY, v text)", dataset).await?;
    for object in 0..OBJECTS {
        desk.write(&format!("in/{object}.csv"), format!("id,v\n{object},x\n"))?;
    }
    let place = desk.write("in/last.csv", "id,v\n-1,x\n")?.replace("/last.csv", "");
    desk.succeed(&["load", &place]).await?;
    let before = n_transactions(&desk).await?;
    let said = desk.succeed(&["load", &place]).await?;
    assert!(said.contains(&format!("{} already imported", OBJECTS + 1)), "{said}");
    let n = n_transactions(&desk).await? - before;
    assert!(n < OBJECTS / 2, "{n} transactions for {OBJECTS} objects");
    Ok(())
}

/// Returns how many transactions the database has seen; sessions report theirs when they end, and looking is a few.
async fn n_transactions(desk: &Desk) -> Result<u64> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let count = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    Ok(desk.database.value(count).await?.parse()?)
}
