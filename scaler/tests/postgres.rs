//! What the scaler asks of Postgres, with a server that goes silent: who leads, and what is kept.

use anyhow::Result;
use penstock_tests::{
    database::Database,
    postgres::Postgres,
    proxy::{Action, Proxy, Rule},
    wait,
};
use scaler::{
    config,
    database::{SchemaError, ensure_schema},
    leader::{Lead, Leadership},
    store::Store,
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what should take seconds, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// How long an answer may take.
const SOON: Duration = Duration::from_secs(2);

/// One scaler's leadership at work.
struct Scaler {
    leadership: Arc<Leadership>,
    stop: CancellationToken,
    keeper: tokio::task::JoinHandle<()>,
}

impl Scaler {
    async fn start(url: String, name: &str, pools: &[String], host: &str) -> Self {
        let leadership = Arc::new(Leadership::new(config::Database::of(url), name, pools.to_vec(), host));
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(Arc::clone(&leadership).keep(stop.clone()));
        leadership.asked().await;
        Self { leadership, stop, keeper }
    }

    async fn lead(&self, pool: &str) -> Lead {
        self.leadership.confirm(pool, SOON).await
    }

    async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.keeper.await?)
    }
}

async fn database() -> Result<Database> {
    let database = Postgres::shared()?.create_database().await?;
    ensure_schema(&config::Database::of(database.url()), "penstock scaler").await?;
    Ok(database)
}

fn pools(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("pool {n}")).collect()
}

async fn sessions(database: &Database, name: &str) -> Result<u32> {
    let query = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = '{name}'"
    );
    Ok(database.value(&query).await?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_pools_take_three_sessions_in_the_leader_and_in_a_standby() -> Result<()> {
    let database = database().await?;
    let pools = pools(50);
    let mut running = Vec::new();
    for (name, expected) in [("leading", Lead::Ours), ("waiting", Lead::Theirs)] {
        let scaler = Scaler::start(database.url(), name, &pools, "host").await;
        let store = Store::new(config::Database::of(database.url()), name, SOON);
        let mut ticks = tokio::task::JoinSet::new();
        for pool in pools.clone() {
            let (store, leadership) = (store.clone(), Arc::clone(&scaler.leadership));
            ticks.spawn(async move {
                let lead = leadership.confirm(&pool, SOON).await;
                for round in 0..5 {
                    store.load_state(&pool).await?;
                    store.read(&pool, std::slice::from_ref(&pool), None, 0.0).await?;
                    store.keep(&pool, &json!({ "round": round }), "host 1", None).await?;
                }
                anyhow::Ok(lead)
            });
        }
        let mut most = 0;
        while ticks.try_join_next().transpose()?.transpose()?.is_none_or(|lead| lead == expected) && !ticks.is_empty() {
            most = most.max(sessions(&database, name).await?);
        }
        assert!(ticks.is_empty(), "not {expected:?}");
        assert!((2..=3).contains(&most.max(sessions(&database, name).await?)), "{most} sessions");
        running.push((scaler, store));
    }
    for (scaler, _) in running {
        scaler.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_session_leads_no_pool_and_the_next_one_leads_all() -> Result<()> {
    let database = database().await?;
    let pools = pools(3);
    let first = Scaler::start(database.url(), "first", &pools, "host").await;
    let second = Scaler::start(database.url(), "second", &pools, "host").await;
    for pool in &pools {
        assert_eq!((first.lead(pool).await, second.lead(pool).await), (Lead::Ours, Lead::Theirs));
    }
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'first' \
               AND datname = current_database()";
    database.execute(end).await?;
    // It asks before it acts, so it does not, whether or not another one leads yet.
    assert!(matches!(first.lead(&pools[0]).await, Lead::Unknown(_)));
    first.leadership.lost(&pools[1]).await;
    let mut led = BTreeSet::new();
    wait::until("somebody to lead every pool", LIMIT, || async {
        let mut leading = BTreeSet::new();
        for pool in &pools {
            let both = (first.lead(pool).await, second.lead(pool).await);
            assert_ne!(both, (Lead::Ours, Lead::Ours));
            if both.0 == Lead::Ours || both.1 == Lead::Ours {
                leading.insert(pool.clone());
            }
        }
        Ok((leading.len() == pools.len()).then_some(leading))
    })
    .await
    .map(|leading| led.extend(leading))?;
    assert_eq!(led.len(), 3);
    first.stop().await?;
    wait::until("the second to lead all", LIMIT, || async {
        let mut all = true;
        for pool in &pools {
            all &= second.lead(pool).await == Lead::Ours;
        }
        Ok(all.then_some(()))
    })
    .await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_session_is_no_lead_before_the_server_gives_its_locks_to_another() -> Result<()> {
    let database = database().await?;
    let proxy = Proxy::start(database.postgres().host_and_port()).await?;
    let pools = pools(2);
    let first = Scaler::start(database.url_through(proxy.address()), "first", &pools, "host").await;
    let second = Scaler::start(database.url(), "second", &pools, "host").await;
    assert_eq!(first.lead(&pools[0]).await, Lead::Ours);
    let silent = Instant::now();
    proxy.hold();
    // The question of a tick ends in time, and says who does not answer.
    let Lead::Unknown(why) = first.lead(&pools[0]).await else { anyhow::bail!("nobody can tell") };
    assert!(silent.elapsed() < SOON + Duration::from_secs(1), "after {:?}", silent.elapsed());
    assert!(why.contains(&format!("Postgres at {} did not answer", proxy.address())), "{why}");
    tokio::time::timeout(LIMIT, first.leadership.lost(&pools[1])).await?;
    assert!(silent.elapsed() < Duration::from_secs(15), "after {:?}", silent.elapsed());
    assert_eq!(second.lead(&pools[1]).await, Lead::Theirs, "the server still keeps the locks");
    let begun = Instant::now();
    assert!(matches!(first.lead(&pools[0]).await, Lead::Unknown(_)));
    assert!(begun.elapsed() < Duration::from_millis(500), "who has no session does not wait");
    wait::until("the second to lead", Duration::from_secs(30), || async {
        Ok((second.lead(&pools[0]).await == Lead::Ours).then_some(()))
    })
    .await?;
    proxy.open();
    wait::until("the first to follow", Duration::from_secs(30), || async {
        Ok((first.lead(&pools[0]).await == Lead::Theirs).then_some(()))
    })
    .await?;
    first.stop().await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn heir_is_who_would_lead_the_pool_from_the_same_machine() -> Result<()> {
    let database = database().await?;
    let ours = Scaler::start(database.url(), "ours", &pools(2), "host").await;
    let successor = |pool: &'static str| ours.leadership.has_successor(pool, SOON);
    assert_eq!(successor("pool 0").await, Some(false));
    let elsewhere = Scaler::start(database.url(), "elsewhere", &pools(2), "another host").await;
    assert_eq!(successor("pool 0").await, Some(false));
    let here = Scaler::start(database.url(), "here", &pools(1), "host").await;
    assert_eq!((successor("pool 0").await, successor("pool 1").await), (Some(true), Some(false)));
    here.stop().await?;
    wait::until("it to be gone", LIMIT, || async { Ok((successor("pool 0").await == Some(false)).then_some(())) })
        .await?;
    elsewhere.stop().await?;
    ours.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_before_ours_in_the_search_path_changes_nothing() -> Result<()> {
    let database = database().await?;
    database
        .execute(&format!(
            "CREATE SCHEMA evil; \
             CREATE FUNCTION evil.pg_try_advisory_lock(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true'; \
             CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'epoch'::timestamptz $$; \
             CREATE TABLE evil.pg_locks (x int); \
             ALTER DATABASE {} SET search_path = evil, pg_catalog",
            database.name()
        ))
        .await?;
    let pools = pools(1);
    let first = Scaler::start(database.url(), "first", &pools, "host").await;
    let second = Scaler::start(database.url(), "second", &pools, "host").await;
    assert_eq!((first.lead(&pools[0]).await, second.lead(&pools[0]).await), (Lead::Ours, Lead::Theirs));
    assert_eq!(first.leadership.has_successor(&pools[0], SOON).await, Some(true));
    let store = Store::new(config::Database::of(database.url()), "store", SOON);
    let read_to = store.read("", &pools, None, 0.0).await?.read_to.map(|at| at.timestamp());
    assert!(read_to.is_some_and(|secs| secs > 1_600_000_000), "{read_to:?}");
    first.stop().await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_database_costs_one_reading_its_time_and_the_next_one_is_well() -> Result<()> {
    let database = database().await?;
    let proxy = Proxy::start(database.postgres().host_and_port()).await?;
    let store = Store::new(config::Database::of(database.url_through(proxy.address())), "store", SOON);
    store.load_state("a").await?;
    proxy.silence_all();
    let begun = Instant::now();
    let error = format!("{:#}", store.load_state("a").await.expect_err("nobody answers"));
    assert_eq!(error, format!("read the pool's state: Postgres at {} did not answer within 2 s", proxy.address()));
    assert!(begun.elapsed() < SOON + Duration::from_secs(1), "after {:?}", begun.elapsed());
    store.load_state("a").await?;
    // Waiting for a connection that others wait on takes no longer either.
    proxy.hold();
    let begun = Instant::now();
    let (one, two, three, four) =
        tokio::join!(store.load_state("a"), store.load_state("a"), store.load_state("a"), store.load_state("a"));
    assert!([one, two, three, four].iter().all(Result::is_err));
    assert!(begun.elapsed() < SOON + Duration::from_secs(1), "after {:?}", begun.elapsed());
    proxy.open();
    store.load_state("a").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_that_is_not_given_leaves_no_session_waiting() -> Result<()> {
    let database = database().await?;
    let store = Store::new(config::Database::of(database.url()), "store", SOON);
    // The session is there by then, so that the statement alone has to end in time.
    store.load_state("a").await?;
    let mut other = database.connect().await?;
    sqlx::Executor::execute(&mut other, "BEGIN; LOCK TABLE penstock.pool_state").await?;
    let error = format!("{:#}", store.load_state("a").await.expect_err("locked"));
    assert!(error.contains("statement timeout"), "{error}");
    wait::until("no session to be left", Duration::from_secs(5), || async {
        Ok((sessions(&database, "store").await? == 0).then_some(()))
    })
    .await?;
    sqlx::Executor::execute(&mut other, "ROLLBACK").await?;
    store.load_state("a").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_goes_silent_while_it_migrates_is_waited_for_anew() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    let proxy = Proxy::start(database.postgres().host_and_port()).await?;
    let silent = proxy.add(Rule::when_client_sends("CREATE TABLE", Action::Silence));
    let through = config::Database::of(database.url_through(proxy.address()));
    let migrated = tokio::time::timeout(LIMIT, ensure_schema(&through, "penstock scaler")).await?;
    let Err(SchemaError::Unreachable(error)) = migrated else { anyhow::bail!("{migrated:?}") };
    assert_eq!(silent.count(), 1);
    assert!(format!("{error:#}").contains(&format!("Postgres at {}", proxy.address())), "{error:#}");
    // The server still has the session, its transaction and the migrations' lock: another process's may take long.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'penstock scaler' \
               AND datname = current_database()";
    database.execute(end).await?;
    ensure_schema(&through, "penstock scaler").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn migration_that_is_waited_for_is_no_silence() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    let mut other = database.connect().await?;
    sqlx::Executor::execute(&mut other, "BEGIN; CREATE SCHEMA penstock").await?;
    let proxy = Proxy::start(database.postgres().host_and_port()).await?;
    let through = config::Database::of(database.url_through(proxy.address()));
    let mut migrating = pin!(ensure_schema(&through, "penstock scaler"));
    tokio::select! {
        early = &mut migrating => anyhow::bail!("it waits for as long as the server works on it: {early:?}"),
        looked = wait::until("three looks at it", LIMIT, || async { Ok((proxy.connections() > 3).then_some(())) }) => looked?,
    }
    sqlx::Executor::execute(&mut other, "ROLLBACK").await?;
    tokio::time::timeout(LIMIT, migrating).await??;
    Ok(())
}
