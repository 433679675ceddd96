//! A worker that starts in bad weather.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::Options,
    postgres::Postgres,
    process::Program,
    proxy::{Action, Rule},
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
async fn those_that_start_at_once_on_an_empty_database_all_find_a_schema() -> Result<()> {
    for _ in 0..3 {
        let database = Postgres::shared()?.create_database().await?;
        let migrate = || Program::new("importer").arg("migrate").env("DATABASE_URL", database.url()).start();
        let starting = (0..8).map(|_| migrate()).collect::<Result<Vec<_>>>()?;
        for importer in starting {
            importer.finish(LIMIT).await?;
        }
        assert_eq!(
            database.value("SELECT count(*) = count(DISTINCT version) FROM penstock._sqlx_migrations").await?,
            "true"
        );
    }
    Ok(())
}
