//! What was read is what is recorded, whatever a message says of it.

use super::{
    bench::{Bench, event, import_group, pointing},
    shelf::{BUCKET, Shelf},
};
use anyhow::Result;
use importer::message::{ObjectPointer, Record};

const IMPORTED: &str = "imported 1 = 1 + 0 + 0";
const APPEND: &str = "table = \"public.t\"\nmode = \"append\"";
const UPSERT: &str = "table = \"public.t\"\nkey = [\"id\"]";
const IDENTITIES: &str = "SELECT version_id, etag, size, state, reason FROM penstock.object_status ORDER BY id";

fn row(v: &str) -> String {
    format!("{{\"id\": 1, \"v\": \"{v}\"}}\n")
}

async fn bench(shelf: Shelf, dataset: &str) -> Result<Bench> {
    let key = if dataset == APPEND { "" } else { "PRIMARY KEY" };
    Bench::with_shelf(shelf, &format!("CREATE TABLE t (id int {key}, v text)"), dataset).await
}

fn claiming(pointer: &ObjectPointer, change: impl FnOnce(&mut ObjectPointer)) -> Record {
    let mut pointer = pointer.clone();
    change(&mut pointer);
    pointing(pointer)
}

/// Settles a claim, then the version's own event, and checks that its row is there once and that the ledger names it.
async fn check(shelf: Shelf, dataset: &str, change: impl FnOnce(&mut ObjectPointer)) -> Result<()> {
    let bench = bench(shelf, dataset).await?;
    let put = bench.shelf.put("k", &row("a"));
    assert_eq!(bench.settle(&claiming(&put, change)).await?, IMPORTED);
    assert_eq!(bench.settle(&event(&put, "01")).await?, "already imported");
    assert_eq!(bench.rows("SELECT v FROM t").await?, ["a"]);
    let ObjectPointer { version_id, etag, size, .. } = put;
    let own = format!(
        "{} | {} | {} | imported | already_imported",
        version_id.as_deref().unwrap_or("∅"),
        etag.unwrap_or_default(),
        size.unwrap_or(0)
    );
    let found = bench.rows(IDENTITIES).await?;
    assert_eq!(found.iter().filter(|line| line.contains("| imported |")).collect::<Vec<_>>(), [&own], "{found:?}");
    let open = "SELECT count(*) FROM penstock.object WHERE state IN ('importing', 'retrying')";
    assert_eq!(bench.rows(open).await?, ["0"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etag_of_another_version_is_not_the_version_that_is_read() -> Result<()> {
    for dataset in [APPEND, UPSERT] {
        check(Shelf::default(), dataset, |claim| (claim.etag, claim.size) = (Some("of another".into()), None)).await?;
        check(Shelf::default(), dataset, |claim| claim.etag = Some("of another".into())).await?;
        check(Shelf::versioned(), dataset, |claim| (claim.etag, claim.size) = (Some("of another".into()), None))
            .await?;
        check(Shelf::versioned(), dataset, |claim| claim.etag = Some("of another".into())).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_is_what_was_read() -> Result<()> {
    for size in [0, 1, 100_000_000] {
        check(Shelf::default(), APPEND, |claim| claim.size = Some(size)).await?;
        check(Shelf::versioned(), APPEND, |claim| claim.size = Some(size)).await?;
        check(Shelf::default(), APPEND, |claim| (claim.etag, claim.size) = (None, Some(size))).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_id_the_store_does_not_have_is_nobodys() -> Result<()> {
    for id in ["x", "00000000000000000000000000000000"] {
        check(Shelf::default(), APPEND, |claim| claim.version_id = Some(id.into())).await?;
        check(Shelf::default(), APPEND, |claim| (claim.version_id, claim.etag) = (Some(id.into()), None)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_the_event_does_not_name_is_recorded_as_the_store_names_it() -> Result<()> {
    check(Shelf::versioned(), APPEND, |claim| claim.version_id = None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sequencer_of_bytes_that_are_gone_is_not_that_of_their_successor() -> Result<()> {
    let bench = bench(Shelf::default(), UPSERT).await?;
    let gone = bench.shelf.put("k", &row("a"));
    bench.shelf.put("k", &row("longer"));
    let claim = claiming(&gone, |claim| (claim.etag, claim.sequencer) = (None, Some("01".into())));
    assert_eq!(bench.settle(&claim).await?, IMPORTED);
    let imported = "SELECT coalesce(sequencer, 'none') FROM penstock.object WHERE state = 'imported'";
    assert_eq!(bench.rows(imported).await?, ["none"]);
    assert_eq!(bench.rows("SELECT v FROM t").await?, ["longer"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_records_what_was_read() -> Result<()> {
    let bench = bench(Shelf::versioned(), APPEND).await?;
    let puts: Vec<ObjectPointer> = (0..4).map(|n| bench.shelf.put(&format!("k{n}"), &row("a"))).collect();
    let claims = [
        event(&puts[0], "01"),
        event(&puts[1], "01"),
        claiming(&puts[2], |claim| claim.size = Some(3)),
        claiming(&puts[3], |claim| claim.etag = Some("of another".into())),
    ];
    let settled = import_group(bench.importer(), &claims).await?;
    assert_eq!(settled.iter().filter(|settled| settled.is_some()).count(), 2, "the others go alone");
    for (record, _) in claims.iter().zip(settled).filter(|(_, settled)| settled.is_none()) {
        assert_eq!(bench.settle(record).await?, IMPORTED);
    }
    for put in &puts {
        assert_eq!(bench.settle(&event(put, "01")).await?, "already imported");
    }
    assert_eq!(bench.rows("SELECT count(*) FROM t").await?, ["4"]);
    assert_eq!(bench.rows("SELECT DISTINCT etag, size FROM penstock.object").await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_left_behind_is_settled_by_the_next_version_of_the_key() -> Result<()> {
    for again in [false, true] {
        let bench = bench(Shelf::default(), UPSERT).await?;
        let put = bench.shelf.put_at("k", &row("b"), 1001);
        if again {
            assert_eq!(bench.settle(&pointing(put.clone())).await?, IMPORTED);
        }
        // Somebody had looked at what was there before, at what there was before that, and at what nobody could name.
        bench
            .database
            .execute(
                "INSERT INTO penstock.head (dataset, bucket, key) VALUES ('d', 'b', 'k') ON CONFLICT DO NOTHING;
                 INSERT INTO penstock.object (head_id, etag, size, last_modified, state, started_at)
                 SELECT id, 'older', 1, to_timestamp(1000), 'importing', now() FROM penstock.head
                 UNION ALL SELECT id, 'newer', 1, to_timestamp(2000), 'importing', now() FROM penstock.head
                 UNION ALL SELECT id, NULL, NULL, NULL, 'retrying', now() FROM penstock.head",
            )
            .await?;
        let said = if again { "already imported" } else { IMPORTED };
        assert_eq!(bench.settle(&pointing(ObjectPointer::new(BUCKET, "k"))).await?, said);
        let open = "SELECT etag FROM penstock.object WHERE state IN ('importing', 'retrying')";
        assert_eq!(bench.rows(open).await?, ["newer"], "that is for its message to settle");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_left_behind_is_settled_by_a_group_as_well() -> Result<()> {
    let bench = bench(Shelf::default(), UPSERT).await?;
    let row = |id: usize| format!("{{\"id\":{id}}}\n");
    let records: Vec<Record> = (0..2).map(|n| pointing(bench.shelf.put_at(&format!("k{n}"), &row(n), 1001))).collect();
    for said in [IMPORTED, "already imported"] {
        bench
            .database
            .execute(
                "INSERT INTO penstock.head (dataset, bucket, key) VALUES ('d', 'b', 'k0') ON CONFLICT DO NOTHING;
                 INSERT INTO penstock.object (head_id, etag, size, last_modified, state, started_at)
                 SELECT id, clock_timestamp()::text, 1, to_timestamp(1000), 'importing', now() FROM penstock.head WHERE key = 'k0'",
            )
            .await?;
        let settled = import_group(bench.importer(), &records).await?;
        for settled in settled {
            assert_eq!(settled.map(|settled| super::bench::said(&settled)).as_deref(), Some(said));
        }
        let open = "SELECT etag FROM penstock.object WHERE state IN ('importing', 'retrying')";
        assert_eq!(bench.rows(open).await?, [""; 0], "{said}");
    }
    Ok(())
}
