//! Binary COPY: what is sent to the server for rows, and in which pieces.

use super::{liveness, refused::is_refusal};
use sqlx::{PgConnection, postgres::PgCopyIn};

/// Bytes of a COPY message. Measured: 256 KiB to 1 MiB are alike, 8 KiB cost 17 %.
pub const MESSAGE_BYTES: usize = 512 * 1024;
/// Signature, flags and extension length of binary COPY
/// ([PostgreSQL, COPY, Binary Format](https://www.postgresql.org/docs/current/sql-copy.html)).
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A field count of -1 ends binary COPY.
const TRAILER: &[u8] = &(-1i16).to_be_bytes();

/// A binary COPY under way.
pub struct Copying<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    /// What is to be sent next.
    message: Vec<u8>,
}

impl<'c> Copying<'c> {
    /// Starts one.
    ///
    /// # Errors
    /// Of the database.
    pub async fn start(connection: &'c mut PgConnection, sql: &str) -> sqlx::Result<Self> {
        let copy = connection.copy_in_raw(sql).await?;
        let mut message = Vec::with_capacity(MESSAGE_BYTES);
        message.extend_from_slice(HEADER);
        Ok(Self { copy, message })
    }

    /// Adds rows as `write` writes them.
    ///
    /// # Errors
    /// Of the database.
    pub async fn add<'r>(
        &mut self,
        rows: impl Iterator<Item = &'r [u8]>,
        mut write: impl FnMut(&mut Vec<u8>, &[u8]),
    ) -> sqlx::Result<()> {
        for tuple in rows {
            write(&mut self.message, tuple);
            if self.message.len() >= MESSAGE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Sends what was added, in pieces, for the connection keeps the memory of the longest. That one goes is a sign of
    /// life.
    ///
    /// # Errors
    /// Of the database.
    pub async fn flush(&mut self) -> sqlx::Result<()> {
        for piece in self.message.chunks(MESSAGE_BYTES) {
            self.copy.send(piece).await?;
            liveness::heard();
        }
        self.message.clear();
        self.message.shrink_to(2 * MESSAGE_BYTES);
        Ok(())
    }

    /// Ends it and returns how many rows were taken.
    ///
    /// # Errors
    /// Of the database.
    pub async fn finish(mut self) -> sqlx::Result<u64> {
        self.message.extend_from_slice(TRAILER);
        self.flush().await?;
        self.copy.finish().await
    }

    /// Ends it after this many rows; false when Postgres refuses one, or a trigger left rows out: staging counts them as
    /// it always did.
    ///
    /// # Errors
    /// Of the database.
    pub async fn all_taken(self, n_rows: u64) -> sqlx::Result<bool> {
        Ok(self.taken(is_refusal).await? == Some(n_rows))
    }

    /// Ends it and returns how many rows were taken; none after an error that `refuses` knows.
    ///
    /// # Errors
    /// Of the database.
    pub async fn taken(self, refuses: impl FnOnce(&sqlx::Error) -> bool) -> sqlx::Result<Option<u64>> {
        match self.finish().await {
            Ok(n_taken) => Ok(Some(n_taken)),
            Err(error) if refuses(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends it in failure, also where the server has failed it already, and leaves the session fit for ROLLBACK.
    ///
    /// # Errors
    /// Where the session is lost.
    pub async fn spoil(mut self) -> sqlx::Result<()> {
        // CopyFail would be answered by an earlier error that the driver does not expect.
        self.copy.send(&i16::MAX.to_be_bytes()[..]).await?;
        match self.copy.finish().await {
            Ok(_) | Err(sqlx::Error::Database(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
