//! Rejects and their second chance, as the ledger keeps them.

use super::text::storable;
use decode::{PayloadForm, Refusal, Reject};
use sqlx::{PgConnection, Row};

/// An object with rejects that wait.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// `object_status.id`.
    pub object_id: i64,
    /// Row of `penstock.head`.
    pub head_id: i64,
    /// Dataset.
    pub dataset: String,
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Version of the object, where its bucket has versions.
    pub version_id: Option<String>,
    /// Rejects that wait.
    pub n_rejects: u64,
    /// How their payloads are written, as far as that is known.
    pub forms: Vec<PayloadForm>,
    /// The fields of a CSV object's records, None for each without a header.
    pub csv_fields: Vec<Option<String>>,
}

/// A reject's row as it was kept.
#[derive(Debug, Clone)]
pub struct KeptReject {
    /// `reject.id`.
    pub id: i64,
    /// 1-based number of the row in the object.
    pub row_number: u64,
    /// What is kept; None when that is not the whole row.
    pub payload: Option<Vec<u8>>,
    /// The member of an archive that it is from.
    pub archive_member: Option<String>,
}
service::from_row!(KeptReject { id, row_number: i64, payload, archive_member });

/// A reject that still does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// `reject.id`.
    pub id: i64,
    /// 1-based number of the row in the object.
    pub row_number: i64,
    /// Why.
    pub why: Refusal,
}

/// What a replay of an object's rejects did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Second {
    /// Those that loaded, gave way to another or were dropped, by `reject.id`.
    pub resolved: Vec<i64>,
    /// Rows of theirs that stand in the table.
    pub n_written: u64,
    /// Of them, those that a command or a transform dropped.
    pub n_filtered: u64,
    /// How many rows became of them.
    pub n_made: u64,
    /// Those that still do not fit.
    pub refused: Vec<Refused>,
}

/// Writes rejects of an object, in the transaction of its rows.
///
/// # Errors
/// Of the database.
pub async fn insert(
    connection: &mut PgConnection,
    object_id: i64,
    form: PayloadForm,
    rejects: &[Reject],
) -> sqlx::Result<()> {
    if rejects.is_empty() {
        return Ok(());
    }
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    sqlx::query(include_str!("insert_rejects.sql"))
        .bind(object_id)
        .bind(rejects.iter().map(|r| number(r.row_number)).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| <&str>::from(r.class)).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| r.column.as_deref().map(storable)).collect::<Vec<_>>())
        // A message may quote a value.
        .bind(rejects.iter().map(|r| storable(&r.message)).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| r.payload.as_slice()).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| number(r.payload_length)).collect::<Vec<_>>())
        .bind(form.as_str())
        .bind(rejects.iter().map(|r| r.member.as_deref().map(storable)).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Returns the objects with rejects that wait, all or those of one key, oldest first.
///
/// # Errors
/// Of the database.
pub async fn waiting(connection: &mut PgConnection, object: Option<(&str, &str)>) -> sqlx::Result<Vec<Waiting>> {
    let rows = sqlx::query(include_str!("waiting_rejects.sql"))
        .bind(object.map(|(bucket, _)| bucket))
        .bind(object.map(|(_, key)| key))
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            let forms: Vec<String> = row.try_get("forms")?;
            Ok(Waiting {
                object_id: row.try_get("object_id")?,
                head_id: row.try_get("head_id")?,
                dataset: row.try_get("dataset")?,
                bucket: row.try_get("bucket")?,
                key: row.try_get("key")?,
                version_id: row.try_get("version_id")?,
                n_rejects: u64::try_from(row.try_get::<i64, _>("n_rejects")?).unwrap_or(0),
                forms: forms.iter().filter_map(|word| PayloadForm::from_word(word)).collect(),
                csv_fields: row.try_get::<Option<Vec<Option<String>>>, _>("csv_fields")?.unwrap_or_default(),
            })
        })
        .collect()
}

/// Returns the next rejects of one form behind the row number and id `after`, at most `limit`. Under the head's lock they
/// stay.
///
/// # Errors
/// Of the database.
pub async fn page(
    connection: &mut PgConnection,
    object_id: i64,
    form: PayloadForm,
    after: (i64, i64),
    limit: i64,
) -> sqlx::Result<Vec<KeptReject>> {
    sqlx::query_as(
        "SELECT id, row_number, archive_member, \
         CASE WHEN octet_length(payload) = payload_length THEN payload END AS payload \
         FROM penstock.reject \
         WHERE object_id = $1 AND resolved_at IS NULL AND payload_form = $2 AND (row_number, id) > ($3, $4) \
         ORDER BY row_number, id LIMIT $5",
    )
    .bind(object_id)
    .bind(form.as_str())
    .bind(after.0)
    .bind(after.1)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Has rejects that were made in this transaction keep these payloads, JSON, by the numbers of their rows; each with its
/// length before it was cut.
///
/// # Errors
/// Of the database.
pub async fn keep(
    connection: &mut PgConnection,
    object_id: i64,
    rows: &[i64],
    payloads: &[Vec<u8>],
    lengths: &[i64],
) -> sqlx::Result<()> {
    let sql = "UPDATE penstock.reject r SET payload = n.payload, payload_length = n.length, payload_form = $5 \
               FROM unnest($2::bigint[], $3::bytea[], $4::bigint[]) n (row_number, payload, length) \
               WHERE r.object_id = $1 AND r.created_at = now() AND r.row_number = n.row_number";
    let query = sqlx::query(sql).bind(object_id).bind(rows).bind(payloads).bind(lengths);
    query.bind(PayloadForm::Json.as_str()).execute(connection).await?;
    Ok(())
}

/// Takes staged rows back whose number is that of a reject made in this transaction; returns how many.
///
/// # Errors
/// Of the database.
pub async fn take_back(connection: &mut PgConnection, object_id: i64, staging: &str) -> sqlx::Result<u64> {
    let sql = format!(
        "DELETE FROM {staging} staged USING penstock.reject r \
         WHERE r.object_id = $1 AND r.created_at = now() AND r.row_number = staged.penstock_row"
    );
    Ok(sqlx::query(&sql).bind(object_id).execute(connection).await?.rows_affected())
}

/// Returns the numbers of the rows that Postgres refused in this transaction.
///
/// # Errors
/// Of the database.
pub async fn new(connection: &mut PgConnection, object_id: i64) -> sqlx::Result<Vec<i64>> {
    let sql = "SELECT row_number FROM penstock.reject \
               WHERE object_id = $1 AND created_at = now() AND resolved_at IS NULL";
    sqlx::query_scalar(sql).bind(object_id).fetch_all(connection).await
}

/// Returns the rows that Postgres refused in this transaction, whose rejects it made again, and removes those
/// rejects again: the ones that wait stand for the rows already.
///
/// # Errors
/// Of the database.
pub async fn take_new(connection: &mut PgConnection, object_id: i64) -> sqlx::Result<Vec<(i64, Refusal)>> {
    // Rejects of this transaction are told by their time, which is the transaction's.
    let taken: Vec<(i64, String, Option<String>, String)> = sqlx::query_as(
        "DELETE FROM penstock.reject WHERE object_id = $1 AND created_at = now() AND resolved_at IS NULL \
         RETURNING row_number, class, column_name, message",
    )
    .bind(object_id)
    .fetch_all(connection)
    .await?;
    let refusal = |(row, class, column, message)| (row, Refusal { class, column, message });
    Ok(taken.into_iter().map(refusal).collect())
}

/// Records a replay: rejects that loaded are resolved, the others say why they still wait, and the object's
/// counts add up again. Runs in the transaction of the rows, under the head's lock.
///
/// # Errors
/// Of the database.
pub async fn settle(connection: &mut PgConnection, object_id: i64, second: &Second) -> sqlx::Result<()> {
    sqlx::query(include_str!("settle_rejects.sql"))
        .bind(object_id)
        .bind(&second.resolved)
        .bind(i64::try_from(second.n_written).unwrap_or(i64::MAX))
        .bind(second.refused.iter().map(|r| r.id).collect::<Vec<_>>())
        .bind(second.refused.iter().map(|r| r.why.class.as_str()).collect::<Vec<_>>())
        .bind(second.refused.iter().map(|r| r.why.column.as_deref().map(storable)).collect::<Vec<_>>())
        .bind(second.refused.iter().map(|r| storable(&r.why.message)).collect::<Vec<_>>())
        .bind(i64::try_from(second.n_filtered).unwrap_or(i64::MAX))
        .bind(i64::try_from(second.n_made).unwrap_or(i64::MAX))
        .execute(connection)
        .await?;
    Ok(())
}
