//! `importer rejects --replay`: bad rows that fit by now.

use crate::{desk::Desk, world::LIMIT};
use anyhow::Result;
use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use penstock_tests::proxy::{Action, Rule};
use std::sync::Arc;

const SMALL: &str = "CREATE TABLE t (id int PRIMARY KEY, n smallint, v text DEFAULT 'none')";
const KEYED: &str = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 9";
const LINEAGE: &str = "ALTER TABLE t ADD penstock_object bigint, ADD penstock_row bigint";
const WIDEN: &str = "ALTER TABLE t ALTER n TYPE bigint";
const REPLAY: [&str; 2] = ["rejects", "--replay"];
const ROWS: &str = "SELECT id, n, v FROM t ORDER BY id, n";

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_fit_by_now_load_and_are_resolved_whatever_the_format() -> Result<()> {
    for (name, content) in [
        ("k.csv", "id,n,v\n1,1,a\n2,70000,\"b \"\"q\"\"\nand more\"\n3,3,c\n".to_owned()),
        ("k.tsv", "id\tn\tv\n1\t1\ta\n2\t70000\t\"b \"\"q\"\"\nand more\"\n3\t3\tc\n".to_owned()),
        ("k.ndjson", ndjson(&[(1, 1, "a"), (2, 70000, "b \\\"q\\\"\\nand more"), (3, 3, "c")])),
        (
            "k.json",
            "[{\"id\":1,\"n\":1,\"v\":\"a\"},\n {\"id\":2,\n  \"n\":70000, \"v\":\"b \\\"q\\\"\\nand more\"},\n {\"id\":3,\"n\":3,\"v\":\"c\"}]".to_owned(),
        ),
    ] {
        let desk = Desk::new(SMALL, KEYED).await?;
        assert_eq!(desk.load(name, content).await?, 0, "{name}");
        assert_eq!(desk.rejects().await?, ["2 range n"], "{name}");
        assert!(desk.succeed(&REPLAY).await?.contains("1 still refused: row 2\n0 rejects resolved, 1 left"), "{name}");
        desk.database.execute(WIDEN).await?;
        assert!(desk.succeed(&REPLAY).await?.contains("1 resolved (1 written, 0 merged)\n1 rejects resolved, 0 left"));
        let rows = ["1 | 1 | a", "2 | 70000 | b \"q\"\nand more", "3 | 3 | c"];
        assert_eq!(desk.database.rows(ROWS).await?, rows, "{name}");
        assert_eq!(desk.ledger().await?, ["imported 3 = 3 + 0 + 0"], "{name}");
        let kept = "SELECT row_number, class, resolved_at IS NOT NULL FROM penstock.rejects";
        assert_eq!(desk.database.rows(kept).await?, ["2 | range | true"], "{name}");
        // Once more changes nothing.
        let before = desk.database.rows("SELECT xmin, ctid, * FROM t ORDER BY id").await?;
        assert_eq!(desk.succeed(&REPLAY).await?, "0 rejects resolved, 0 left\n", "{name}");
        assert_eq!(desk.database.rows("SELECT xmin, ctid, * FROM t ORDER BY id").await?, before, "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_file_without_header_and_in_another_encoding_are_read_as_they_were() -> Result<()> {
    let dataset =
        format!("{KEYED}\n[dataset.csv]\nheader = false\ndelimiter = \";\"\nnull = [\"NA\"]\nencoding = \"latin1\"");
    let desk = Desk::new(SMALL, &dataset).await?;
    assert_eq!(desk.load("k.csv", b"1;1;a\n2;70000;\xe9t\xe9\n3;NA;NA\n").await?, 0);
    desk.database.execute(WIDEN).await?;
    desk.succeed(&REPLAY).await?;
    assert_eq!(desk.database.rows(ROWS).await?, ["1 | 1 | a", "2 | 70000 | été", "3 | ∅ | ∅"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_parquet_file_are_read_from_their_json() -> Result<()> {
    let table = "CREATE TABLE t (id int PRIMARY KEY, n smallint, b bytea, at timestamptz)";
    let desk = Desk::new(table, KEYED).await?;
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        ("n", Arc::new(Int64Array::from(vec![1, 70000]))),
        ("b", Arc::new(BinaryArray::from(vec![&b"a"[..], b"\x00\xff"]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000]).with_timezone("UTC"))),
    ])?;
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    assert_eq!(desk.load("k.parquet", file).await?, 0);
    assert_eq!(desk.rejects().await?, ["2 range n"]);
    desk.database.execute(WIDEN).await?;
    desk.succeed(&REPLAY).await?;
    let rows = "SELECT id, n, b, at AT TIME ZONE 'UTC' FROM t ORDER BY id";
    assert_eq!(
        desk.database.rows(rows).await?,
        ["1 | 1 | \\x61 | 1970-01-01T00:00:00", "2 | 70000 | \\x00ff | 1970-01-01T00:00:01.5"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_postgres_refused_are_read_by_column_with_captures_renames_and_defaults() -> Result<()> {
    let table = "CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE parent (id int PRIMARY KEY); \
        CREATE TABLE t (id int PRIMARY KEY, n int REFERENCES parent, v text DEFAULT 'none', m mood, tags text[], \
                        j jsonb, at timestamptz, dt date, other text DEFAULT 'unseen')";
    let desk = Desk::new(table, KEYED).await?;
    desk.configure("dt={dt}.ndjson", &format!("{KEYED}\nrename = {{ \"number\" = \"n\", \"n\" = \"v\" }}"))?;
    let content = "{\"id\":1,\"number\":5,\"m\":\"glad\",\"tags\":[\"a\",null],\"j\":{\"x\":[1.50]},\"at\":\"2026-01-02T03:04:05.678901Z\"}\n\
                   {\"id\":2,\"n\":\"text\"}\n";
    assert_eq!(desk.load("dt=2026-01-01.ndjson", content).await?, 0);
    assert_eq!(desk.rejects().await?, ["1 foreign_key"]);
    let payload = "SELECT convert_from(payload, 'UTF8')::jsonb ?| ARRAY['other', 'v', 'penstock_row', 'penstock_absent_2'] FROM penstock.rejects";
    assert_eq!(desk.database.value(payload).await?, "false");
    desk.database.execute("INSERT INTO parent VALUES (5)").await?;
    assert!(desk.succeed(&REPLAY).await?.contains("1 resolved"));
    assert_eq!(
        desk.database.rows("SELECT id, n, v, m, tags, j, at AT TIME ZONE 'UTC', dt, other FROM t ORDER BY id").await?,
        [
            "1 | 5 | none | glad | [\"a\",null] | {\"x\": [1.50]} | 2026-01-02T03:04:05.678901 | 2026-01-01 | unseen",
            "2 | ∅ | text | ∅ | ∅ | ∅ | ∅ | 2026-01-01 | unseen"
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_still_do_not_fit_say_what_is_in_their_way_now() -> Result<()> {
    let desk = Desk::new(SMALL, KEYED).await?;
    desk.load("k.csv", "id,n\n1,70000\n2,80000\n3,3\n4,90000\n").await?;
    desk.database.execute(&format!("{WIDEN}; ALTER TABLE t ADD CONSTRAINT top CHECK (n <> 80000)")).await?;
    let said = desk.succeed(&REPLAY).await?;
    assert!(said.contains("2 resolved (2 written, 0 merged); 1 still refused: row 2\n"), "{said}");
    assert_eq!(desk.rejects().await?, ["2 check"]);
    assert_eq!(desk.ledger().await?, ["imported 4 = 3 + 0 + 1"]);
    assert_eq!(desk.database.value("SELECT count(*) FROM penstock.rejects").await?, "3");
    desk.database.execute("ALTER TABLE t DROP CONSTRAINT top").await?;
    desk.succeed(&REPLAY).await?;
    assert_eq!(desk.ledger().await?, ["imported 4 = 4 + 0 + 0"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_put_right_by_hand_loads() -> Result<()> {
    let desk = Desk::new(SMALL, KEYED).await?;
    let file = desk.write("k.csv", "id,n,v\n1,one,a\n2,2,b\n")?;
    desk.succeed(&["load", &file]).await?;
    let mend = "UPDATE penstock.reject SET payload = '1,1,a', payload_length = 5";
    desk.database.execute(mend).await?;
    desk.succeed(&["rejects", "/no/such/file", "--replay"]).await?;
    assert_eq!(desk.database.rows(ROWS).await?, ["2 | 2 | b"]);
    desk.succeed(&["rejects", &file, "--replay"]).await?;
    assert_eq!(desk.database.rows(ROWS).await?, ["1 | 1 | a", "2 | 2 | b"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_kept_only_in_part_is_not_replayed_and_is_said_so() -> Result<()> {
    let desk = Desk::new(SMALL, KEYED).await?;
    let long = "x".repeat(70_000);
    desk.load("k.ndjson", ndjson(&[(1, 70000, &long), (2, 80000, "b"), (3, 3, "c")])).await?;
    desk.database.execute(WIDEN).await?;
    let said = desk.succeed(&REPLAY).await?;
    assert!(
        said.contains("1 resolved (1 written, 0 merged); 1 truncated when kept, cannot be replayed: row 1\n"),
        "{said}"
    );
    assert_eq!(desk.rejects().await?, ["1 range n"]);
    assert_eq!(desk.ledger().await?, ["imported 3 = 2 + 0 + 1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_of_a_version_that_no_longer_stands_are_refused() -> Result<()> {
    let desk = Desk::new(SMALL, KEYED).await?;
    desk.load("k.csv", "id,n\n1,70000\n2,2\n").await?;
    desk.load("k.csv", "id,n\n1,10\n").await?;
    desk.database.execute(WIDEN).await?;
    let said = desk.succeed(&REPLAY).await?;
    assert!(
        said.contains("refused: another version of the object is current now\n0 rejects resolved, 1 left"),
        "{said}"
    );
    assert_eq!(desk.database.rows("SELECT id, n FROM t ORDER BY id").await?, ["1 | 10", "2 | 2"]);
    assert_eq!(desk.ledger().await?, ["imported 2 = 1 + 0 + 1", "imported 1 = 1 + 0 + 0"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_waits_for_the_version_that_is_being_written_and_then_gives_way_to_it() -> Result<()> {
    let desk = Desk::new(SMALL, KEYED).await?;
    desk.load("k.csv", "id,n\n1,70000\n2,2\n").await?;
    desk.database.execute(WIDEN).await?;
    let (replaying, loading) = (desk.proxy().await?, desk.proxy().await?);
    // The rejects have been listed, the head is not locked yet.
    let fence = replaying.add(Rule::when_client_sends("FOR NO KEY UPDATE", Action::HoldRequest));
    let replay = desk.importer_through(&replaying, &REPLAY).start()?;
    fence.fired(1, LIMIT).await?;
    let file = desk.write("k.csv", "id,n\n1,10\n")?;
    let committing = crate::world::at_commit_of_rows(&loading, Action::HoldRequest);
    let load = desk.importer_through(&loading, &["load", &file]).start()?;
    let commit = committing.await?;
    fence.release();
    desk.wait_for_a_blocked_session().await?;
    commit.release();
    load.wait_exit(LIMIT).await?;
    replay.wait_exit(LIMIT).await?;
    assert!(replay.stdout().contains("refused: another version"), "{}", replay.stdout());
    assert_eq!(desk.database.rows("SELECT id, n FROM t ORDER BY id").await?, ["1 | 10", "2 | 2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_rows_belong_to_their_object() -> Result<()> {
    for (mode, after) in [("replace", vec!["3 | 3"]), ("append", vec!["1 | 70000", "2 | 2", "3 | 3"])] {
        let dataset = format!("table = \"t\"\nmode = \"{mode}\"\nmax_rejects = 9");
        let desk = Desk::new(&format!("{SMALL}; {LINEAGE}"), &dataset).await?;
        desk.load("k.csv", "id,n\n1,70000\n2,2\n").await?;
        desk.database.execute(WIDEN).await?;
        desk.succeed(&REPLAY).await?;
        let lineage =
            "SELECT id, penstock_object = (SELECT id FROM penstock.object_status), penstock_row FROM t ORDER BY id";
        assert_eq!(desk.database.rows(lineage).await?, ["1 | true | 1", "2 | true | 2"], "{mode}");
        desk.load("k.csv", "id,n\n3,3\n").await?;
        assert_eq!(desk.database.rows("SELECT id, n FROM t ORDER BY id").await?, after, "{mode}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_row_of_the_same_object_keeps_standing() -> Result<()> {
    let desk = Desk::new(&format!("{SMALL}; {LINEAGE}"), KEYED).await?;
    desk.load("k.csv", "id,n,v\n1,70000,early\n1,5,late\n2,5,early\n2,70000,late\n3,70000,a\n3,70000,b\n").await?;
    assert_eq!(desk.ledger().await?, ["imported 6 = 2 + 0 + 4"]);
    desk.database.execute(WIDEN).await?;
    assert!(desk.succeed(&REPLAY).await?.contains("4 resolved (2 written, 2 merged)"));
    assert_eq!(desk.database.rows(ROWS).await?, ["1 | 5 | late", "2 | 70000 | late", "3 | 70000 | b"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_row_wins_over_a_replayed_one() -> Result<()> {
    let desk = Desk::new(SMALL, &format!("{KEYED}\nnewer = \"v\"")).await?;
    desk.load("k.csv", "id,n,v\n1,70000,b\n2,70000,b\n3,3,c\n").await?;
    desk.load("l.csv", "id,n,v\n1,1,c\n2,2,a\n").await?;
    desk.database.execute(WIDEN).await?;
    assert!(desk.succeed(&REPLAY).await?.contains("2 resolved (1 written, 1 merged)"));
    assert_eq!(desk.database.rows(ROWS).await?, ["1 | 1 | c", "2 | 70000 | b", "3 | 3 | c"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_or_after_its_commit_a_replay_is_taken_up_by_the_next() -> Result<()> {
    for action in [Action::HoldRequest, Action::HoldAnswer] {
        let desk = Desk::new(
            &format!("{SMALL}; ALTER TABLE t DROP CONSTRAINT t_pkey"),
            "table = \"t\"\nmode = \"append\"\nmax_rejects = 9",
        )
        .await?;
        desk.load("k.csv", "id,n\n1,70000\n2,2\n").await?;
        desk.load("l.csv", "id,n\n3,70000\n4,4\n").await?;
        desk.database.execute(WIDEN).await?;
        let proxy = desk.proxy().await?;
        let commit = proxy.add(Rule::when_client_sends("COMMIT\0", action.clone()));
        let replay = desk.importer_through(&proxy, &REPLAY).start()?;
        commit.fired(1, LIMIT).await?;
        if action == Action::HoldAnswer {
            let done = "SELECT count(*) FROM penstock.rejects WHERE resolved_at IS NOT NULL";
            penstock_tests::wait::until("the commit", LIMIT, || async {
                Ok((desk.database.value(done).await? == "1").then_some(()))
            })
            .await?;
        }
        replay.kill()?;
        desk.succeed(&REPLAY).await?;
        let rows = ["1 | 70000", "2 | 2", "3 | 70000", "4 | 4"];
        assert_eq!(desk.database.rows("SELECT id, n FROM t ORDER BY id").await?, rows, "{action:?}");
        assert_eq!(desk.ledger().await?, ["imported 2 = 2 + 0 + 0"; 2], "{action:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replays_at_once_append_each_row_once() -> Result<()> {
    let desk = Desk::new(
        &format!("{SMALL}; ALTER TABLE t DROP CONSTRAINT t_pkey"),
        "table = \"t\"\nmode = \"append\"\nmax_rejects = 9",
    )
    .await?;
    desk.load("k.csv", "id,n\n1,70000\n2,80000\n3,3\n").await?;
    desk.database.execute(WIDEN).await?;
    let proxy = desk.proxy().await?;
    let fences = proxy.add(Rule::when_client_sends("FOR NO KEY UPDATE", Action::HoldRequest).times(2));
    let replays = [desk.importer_through(&proxy, &REPLAY).start()?, desk.importer_through(&proxy, &REPLAY).start()?];
    fences.fired(2, LIMIT).await?;
    fences.release();
    for replay in replays {
        replay.finish(LIMIT).await?;
    }
    assert_eq!(desk.database.rows("SELECT id, n FROM t ORDER BY id").await?, ["1 | 70000", "2 | 80000", "3 | 3"]);
    assert_eq!(desk.ledger().await?, ["imported 3 = 3 + 0 + 0"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_rejects_of_one_row_each_is_loaded_that_is_resolved() -> Result<()> {
    let desk = Desk::new(
        &format!("{SMALL}; ALTER TABLE t DROP CONSTRAINT t_pkey"),
        "table = \"t\"\nmode = \"append\"\nmax_rejects = 9",
    )
    .await?;
    desk.load("k.csv", "id,n\n1,70000\n2,2\n").await?;
    let more = "INSERT INTO penstock.reject (object_id, row_number, class, message, payload, payload_length, payload_form) \
                SELECT object_id, row_number, class, message, payload, payload_length, payload_form \
                FROM penstock.reject, generate_series(1, 299); \
                UPDATE penstock.object SET rows_added = 299, rows_rejected = 300";
    desk.database.execute(&format!("{WIDEN}; {more}")).await?;
    assert!(
        desk.succeed(&REPLAY).await?.contains("300 resolved (300 written, 0 merged)\n300 rejects resolved, 0 left")
    );
    assert_eq!(desk.database.value("SELECT count(*) FROM t WHERE n = 70000").await?, "300");
    assert!(desk.rejects().await?.is_empty());
    Ok(())
}

fn ndjson(rows: &[(i32, i32, &str)]) -> String {
    rows.iter().map(|(id, n, v)| format!("{{\"id\":{id},\"n\":{n},\"v\":\"{v}\"}}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_archive_keep_their_members_name() -> Result<()> {
    for (content, name) in
        [("id,n\n1,1\n2,70000\n", "a.csv"), ("{\"id\":1,\"n\":1}\n{\"id\":2,\"n\":70000}\n", "a.json")]
    {
        let desk = Desk::new("CREATE TABLE t (id int PRIMARY KEY, n smallint, archive_member text)", KEYED).await?;
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, format!("in/{name}"), content.as_bytes())?;
        assert_eq!(desk.load("k.tar", archive.into_inner()?).await?, 0, "{name}");
        assert!(desk.succeed(&["rejects"]).await?.contains(&format!("  member in/{name}: ")), "{name}");
        desk.database.execute(WIDEN).await?;
        desk.succeed(&REPLAY).await?;
        let rows = desk.database.rows("SELECT id, n, archive_member FROM t ORDER BY id").await?;
        assert_eq!(rows, [format!("1 | 1 | in/{name}"), format!("2 | 70000 | in/{name}")]);
    }
    Ok(())
}
