//! A transaction and a savepoint: where each begins and how it ends is written here and nowhere else.

use sqlx::{Executor, PgConnection};

/// How a transaction begins, in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// As any transaction.
    Plainly,
    /// Constraints are checked by the statement that breaks them, so that a row can be blamed.
    ConstraintsImmediate,
    /// Names without a schema are looked for in the role's own `search_path`, which sessions give up.
    RolesSearchPath,
}

impl Begin {
    fn sql(self) -> &'static str {
        match self {
            Self::Plainly => "BEGIN",
            Self::ConstraintsImmediate => "BEGIN; SET CONSTRAINTS ALL IMMEDIATE",
            Self::RolesSearchPath => "BEGIN; SET LOCAL search_path TO DEFAULT",
        }
    }
}

/// How a transaction ends whose work met no error.
#[derive(Debug)]
pub enum End<T> {
    /// What was written stands.
    Commit(T),
    /// Nothing was written, or it is not to stay.
    RollBack(T),
}

/// An error out of a transaction.
pub trait TransactionError: From<sqlx::Error> {
    /// Returns whether the session is lost with it: what a failed COPY or a cut connection leaves behind is not worth
    /// reasoning about. After any other error ROLLBACK leaves the session clean.
    fn loses_session(&self) -> bool;
}

impl TransactionError for sqlx::Error {
    fn loses_session(&self) -> bool {
        true
    }
}

/// Does work in a transaction, which ends as the work says, or with ROLLBACK after an error that leaves the session usable.
///
/// # Errors
/// Of the work, and then nothing was committed; or of the database at the transaction's own statements. Whether a COMMIT
/// happened whose answer is missing, what it wrote tells. Where the error loses the session, the transaction is left
/// open: the connection must be dropped.
pub async fn transaction<T, E: TransactionError>(
    connection: &mut PgConnection,
    begin: Begin,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<End<T>, E>,
) -> Result<T, E> {
    connection.execute(begin.sql()).await?;
    let (ending, result) = match work(connection).await {
        Ok(End::Commit(value)) => ("COMMIT", Ok(value)),
        Ok(End::RollBack(value)) => ("ROLLBACK", Ok(value)),
        Err(error) if error.loses_session() => return Err(error),
        Err(error) => ("ROLLBACK", Err(error)),
    };
    connection.execute(ending).await?;
    result
}

/// How long a savepoint lasts whose work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// As long as its transaction, which saves a round trip.
    Transaction,
    /// As long as the work: for work that is done again and again.
    Work,
}

/// Does work behind a savepoint, in a transaction. An error that `undone` knows takes back this work and no more, and is
/// the inner one.
///
/// # Errors
/// Of the work, where `undone` does not know it, or of the database at the savepoint's own statements.
pub async fn savepoint<T, E: From<sqlx::Error>>(
    connection: &mut PgConnection,
    lasts: Lasts,
    undone: impl FnOnce(&E) -> bool,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<Result<T, E>, E> {
    connection.execute("SAVEPOINT penstock").await?;
    match work(connection).await {
        Ok(value) => {
            if lasts == Lasts::Work {
                connection.execute("RELEASE SAVEPOINT penstock").await?;
            }
            Ok(Ok(value))
        }
        Err(error) if undone(&error) => {
            connection.execute("ROLLBACK TO SAVEPOINT penstock").await?;
            Ok(Err(error))
        }
        Err(error) => Err(error),
    }
}
