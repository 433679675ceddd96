//! A worker that starts in bad weather.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::Options,
    postgres::Postgres,
    process::Program,
    proxy::{Action, Rule},
    wait,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_while_the_schema_is_read_is_waited_out() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    world.pipeline.put("pairs/a", pairs(&[(1, "x")])).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let proxy = world.postgres_proxy().await?;
    let cut = proxy.add(Rule::when_client_sends("_sqlx_migrations", Action::CutAnswer(0)));
    let worker = world.through_postgres(world.drainer(), &proxy).expect_line("out of reach").start()?;
    worker.finish(LIMIT).await?;
    assert_eq!(cut.count(), 1);
    assert_eq!(world.pairs().await?, ["1=x"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_another_one_creates_at_the_same_moment_will_do() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    let mut other = database.connect().await?;
    sqlx::raw_sql("BEGIN; CREATE SCHEMA penstock").execute(&mut other).await?;
    let importer = Program::new("importer").arg("migrate").env("DATABASE_URL", database.url()).start()?;
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait::until("the importer to come upon the other's schema", LIMIT, || async {
        Ok((database.value(waiting).await? == "1").then_some(()))
    })
    .await?;
    sqlx::raw_sql("COMMIT").execute(&mut other).await?;
    importer.finish(LIMIT).await
}
