//! Binary COPY: what is sent to the server for rows, and in which pieces.

use super::{liveness, refused::is_refusal};
use sqlx::{PgConnection, postgres::PgCopyIn};

/// Bytes of a COPY message. Measured: 256 KiB to 1 MiB are alike, 8 KiB cost 17 %.
pub const MESSAGE_BYTES: usize = 512 * 1024;
/// Signature, flags and extension length of binary COPY
/// ([PostgreSQL, COPY, Binary Format](https://www.postgresql.org/docs/current/sql-copy.html)).
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A field count of -1 ends binary COPY.
pub const TRAILER: &[u8] = &(-1i16).to_be_bytes();

/// Sends a part of a COPY, in pieces, for the connection keeps the memory of the longest. That one goes is a sign of life.
///
/// # Errors
/// Of the database.
pub async fn send(copy: &mut PgCopyIn<&mut PgConnection>, part: &[u8]) -> sqlx::Result<()> {
    for piece in part.chunks(MESSAGE_BYTES) {
        copy.send(piece).await?;
        liveness::heard();
    }
    Ok(())
}

/// Sends what is in `message` and empties it.
///
/// # Errors
/// Of the database.
pub async fn flush(copy: &mut PgCopyIn<&mut PgConnection>, message: &mut Vec<u8>) -> sqlx::Result<()> {
    send(copy, message).await?;
    message.clear();
    message.shrink_to(2 * MESSAGE_BYTES);
    Ok(())
}

/// Sends the whole of a binary COPY: header, rows as `write` writes them, trailer.
///
/// # Errors
/// Of the database.
pub async fn copy_rows<'r>(
    copy: &mut PgCopyIn<&mut PgConnection>,
    rows: impl Iterator<Item = &'r [u8]>,
    mut write: impl FnMut(&[u8], &mut Vec<u8>),
) -> sqlx::Result<()> {
    let mut message = Vec::with_capacity(MESSAGE_BYTES);
    message.extend_from_slice(HEADER);
    for tuple in rows {
        write(tuple, &mut message);
        if message.len() >= MESSAGE_BYTES {
            flush(copy, &mut message).await?;
        }
    }
    message.extend_from_slice(TRAILER);
    flush(copy, &mut message).await
}

/// Ends a COPY in failure, also where the server has failed it already, and leaves the session fit for ROLLBACK.
///
/// # Errors
/// Where the session is lost.
pub async fn spoil(mut copy: PgCopyIn<&mut PgConnection>) -> sqlx::Result<()> {
    // CopyFail would be answered by an earlier error that the driver does not expect.
    send(&mut copy, &i16::MAX.to_be_bytes()).await?;
    match copy.finish().await {
        Ok(_) | Err(sqlx::Error::Database(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Ends a COPY of so many rows; false when Postgres refuses one, or a trigger left rows out: staging counts them as
/// it always did.
///
/// # Errors
/// Of the database.
pub async fn all_taken(copy: PgCopyIn<&mut PgConnection>, n_rows: u64) -> sqlx::Result<bool> {
    match copy.finish().await {
        Ok(n_taken) => Ok(n_taken == n_rows),
        Err(error) if is_refusal(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
