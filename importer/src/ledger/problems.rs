//! What pages say is broken, where no worker's heartbeat follows it.

use sqlx::PgConnection;

/// Forgets the problems of versions of these keys, `(bucket, key)`, that an imported one has taken the place of.
///
/// # Errors
/// Of the database.
pub async fn forget_mended(connection: &mut PgConnection, keys: &[(&str, &str)]) -> sqlx::Result<()> {
    let (buckets, keys): (Vec<&str>, Vec<&str>) = keys.iter().copied().unzip();
    sqlx::query(include_str!("forget_mended.sql")).bind(buckets).bind(keys).execute(connection).await?;
    Ok(())
}
