//! How tags that are due are claimed: side by side, no object twice, and at a cost that does not grow with what waits.

use crate::world::LIMIT;
use anyhow::{Context as _, Result};
use importer::ledger::{migrate::migrate, tags::claim};
use penstock_tests::{database::Database, postgres::Postgres};
use service::due::Item;
use sqlx::{Connection as _, PgConnection};
use std::collections::BTreeSet;
use tokio::time::timeout;

/// The look-ups in `penstock.due_item` of this transaction.
const LOOKED_AT: &str = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) \
                         FROM pg_stat_xact_user_tables WHERE relid = 'penstock.due_item'::regclass";

async fn ledger() -> Result<Database> {
    let database = Postgres::shared()?.create_database().await?;
    migrate(&mut database.connect().await?).await?;
    Ok(database)
}

/// Makes tags of objects `first` to `last` due, for each of the datasets.
async fn make_due(database: &Database, datasets: &[&str], first: u32, last: u32) -> Result<()> {
    let datasets = datasets.join(",");
    let insert = format!(
        "INSERT INTO penstock.due_item (kind, target, dataset, body) \
         SELECT 'tag', d, d, jsonb_build_object('bucket', 'landing', 'key', n::text, 'tag', d, 'value', 'loaded') \
         FROM generate_series({first}, {last}) n, unnest('{{{datasets}}}'::text[]) d"
    );
    database.execute(&insert).await
}

async fn claim_in_time(connection: &mut PgConnection, busy: &[&str]) -> Result<Vec<Item>> {
    let busy: Vec<String> = busy.iter().map(|dataset| format!("tag {dataset}")).collect();
    timeout(LIMIT, claim(connection, &busy)).await.context("a claim waits")?.context("claim")
}

/// Returns the keys of objects, sorted as texts. None is there twice.
fn keys(items: &[Item]) -> Result<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    for item in items {
        let body: serde_json::Value = serde_json::from_str(&item.body)?;
        let key = body["key"].as_str().context("a key")?;
        assert!(keys.insert(key.to_owned()), "{key} twice");
    }
    Ok(keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_tags_looks_at_no_more_however_many_wait() -> Result<()> {
    let database = ledger().await?;
    let datasets = ["a", "b", "c", "d", "e"];
    for (dataset, first) in datasets.iter().zip([1, 10_001, 20_001, 30_001]) {
        make_due(&database, &[dataset], first, first + 4999).await?;
    }
    // The youngest, behind all others.
    make_due(&database, &datasets[4..], 40_001, 40_100).await?;
    let mut connection = database.connect().await?;
    for (busy, expected) in [(&datasets[..0], 100), (&datasets[..4], 25), (&datasets[..], 0)] {
        let mut tx = connection.begin().await?;
        let claimed = claim_in_time(&mut tx, busy).await?;
        let looked_at: i64 = sqlx::query_scalar(LOOKED_AT).fetch_one(&mut *tx).await?;
        tx.rollback().await?;
        assert_eq!(keys(&claimed)?.len(), expected, "{busy:?} busy");
        assert!(looked_at < 1000, "{busy:?} busy: {looked_at}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_claim_tags_at_once_and_never_of_one_object() -> Result<()> {
    let database = ledger().await?;
    make_due(&database, &["a"], 1, 60).await?;
    let (mut one, mut other) = (database.connect().await?, database.connect().await?);
    let mut first = one.begin().await?;
    let firsts = keys(&claim_in_time(&mut first, &[]).await?)?;
    assert_eq!(firsts.len(), 25);
    // Due only now, so the first has not seen them: more tags of the same objects, and of others.
    make_due(&database, &["b"], 1, 90).await?;
    let mut seconds = BTreeSet::new();
    for _ in 0..10 {
        seconds.append(&mut keys(&claim_in_time(&mut other, &[]).await?)?);
    }
    assert!(seconds.len() >= 30, "{seconds:?}");
    assert!(seconds.is_disjoint(&firsts), "{seconds:?}");
    first.commit().await?;
    // Nor are they claimed when the first one's claim stands.
    let thirds = keys(&claim_in_time(&mut other, &[]).await?)?;
    assert!(thirds.is_disjoint(&firsts), "{thirds:?}");

    // What was refused and is left alone for hours keeps no other tag of its objects waiting.
    database.execute("UPDATE penstock.due_item SET at = now() + interval '6 hours' WHERE target = 'a'").await?;
    database.execute("UPDATE penstock.due_item SET at = now() WHERE target = 'b'").await?;
    let left = keys(&claim_in_time(&mut other, &[]).await?)?;
    assert_eq!(left.len(), 25);
    Ok(())
}
