//! Who may use a session after whom, and what a transaction leaves behind.

use anyhow::Result;
use importer::{
    database::{Begin, End, Lasts, TransactionError, savepoint},
    load::{Session, Sessions},
};
use penstock_tests::{database::Database, postgres::Postgres};
use sqlx::{Executor as _, PgConnection, postgres::PgConnectOptions};
use std::time::Duration;

/// An error of the work in a transaction.
#[derive(Debug)]
enum Failed {
    Object,
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl TransactionError for Failed {
    fn loses_session(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

async fn bench() -> Result<(Database, Sessions)> {
    let database = Postgres::shared()?.create_database().await?;
    database.execute("CREATE TABLE public.t (id int PRIMARY KEY)").await?;
    let options: PgConnectOptions = database.url().parse()?;
    Ok((database, Sessions::new(move || Ok(options.clone()))))
}

/// Inserts a row, in a transaction that ends so.
async fn insert(session: &mut Session, id: i32, end: fn(i32) -> Result<End<i32>, Failed>) -> Result<i32, Failed> {
    let work = async |tx: &mut PgConnection| {
        tx.execute(format!("INSERT INTO public.t VALUES ({id})").as_str()).await?;
        end(id)
    };
    session.transaction(Begin::Plainly, work).await
}

#[tokio::test]
async fn a_transaction_commits_or_rolls_back_as_its_work_says_and_its_session_is_lent_again() -> Result<()> {
    let (database, sessions) = bench().await?;
    let mut backends = Vec::new();
    for (id, end) in [
        (1, (|id| Ok(End::Commit(id))) as fn(i32) -> Result<End<i32>, Failed>),
        (2, |id| Ok(End::RollBack(id))),
        (3, |_| Err(Failed::Object)),
    ] {
        let mut session = sessions.lend().await?;
        backends.push(session.backend);
        let ended = insert(&mut session, id, end).await;
        assert_eq!(ended.is_err(), id == 3, "{ended:?}");
        sessions.give_back(session);
    }
    assert_eq!(database.rows("SELECT id FROM public.t").await?, ["1"]);
    backends.dedup();
    assert_eq!(backends, sessions.backends(), "one connection for all");
    Ok(())
}

#[tokio::test]
async fn a_session_in_the_middle_of_a_transaction_is_never_lent_again() -> Result<()> {
    let (database, sessions) = bench().await?;
    // What the database says may leave anything behind; work that was given up was in the middle of anything.
    for given_up in [false, true] {
        let mut session = sessions.lend().await?;
        let backend = session.backend;
        if given_up {
            let endless = async |tx: &mut PgConnection| {
                tx.execute("INSERT INTO public.t VALUES (1)").await?;
                std::future::pending::<Result<End<()>, sqlx::Error>>().await
            };
            let waited = tokio::time::timeout(
                Duration::from_millis(300),
                session.transaction(Begin::ConstraintsImmediate, endless),
            );
            assert!(waited.await.is_err());
        } else {
            database.execute("INSERT INTO public.t VALUES (2)").await?;
            let refused = insert(&mut session, 2, |id| Ok(End::Commit(id))).await;
            assert!(matches!(refused, Err(Failed::Database(_))), "{refused:?}");
        }
        sessions.give_back(session);
        assert_eq!(sessions.backends(), Vec::<i32>::new(), "closed");
        let next = sessions.lend().await?;
        assert_ne!(next.backend, backend);
        drop(next);
    }
    // The row that nobody committed holds up nobody.
    database.execute("SET lock_timeout = '10s'; INSERT INTO public.t VALUES (1)").await?;
    Ok(())
}

#[tokio::test]
async fn a_savepoint_takes_back_its_own_work_and_no_more() -> Result<()> {
    let (database, sessions) = bench().await?;
    let mut session = sessions.lend().await?;
    let work = async |tx: &mut PgConnection| {
        tx.execute("INSERT INTO public.t VALUES (1)").await?;
        for (lasts, id) in [(Lasts::Transaction, 2), (Lasts::Work, 3), (Lasts::Work, 1), (Lasts::Transaction, 1)] {
            let twice = |error: &Failed| matches!(error, Failed::Database(sqlx::Error::Database(_)));
            let inserted = savepoint(tx, lasts, twice, async |tx| {
                tx.execute(format!("INSERT INTO public.t VALUES ({})", id + 10).as_str()).await?;
                Ok(tx.execute(format!("INSERT INTO public.t VALUES ({id})").as_str()).await?)
            });
            assert_eq!(inserted.await?.is_err(), id == 1, "{id}");
        }
        Ok::<_, Failed>(End::Commit(()))
    };
    let ended = session.transaction(Begin::Plainly, work).await;
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(database.rows("SELECT id FROM public.t ORDER BY id").await?, ["1", "2", "3", "12", "13"]);
    Ok(())
}
