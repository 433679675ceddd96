//! From a decoded cell to the bytes Postgres's binary COPY wants, chosen by the target column.
//!
//! Pure: no clock, no network. The type of the *column* decides how a value is read
//! (docs/concepts/tables.md); a value that does not fit is a [`CellError`], never a wrap
//! or a rounding through float.

/// How a column's values travel in binary COPY.
///
/// Built from the catalog by `load::catalog`; everything the encoder has no binary form for
/// is [`PgType::Cast`]: it travels as text and the server casts it in the merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PgType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`, with precision and scale when the column declares them.
    Numeric(Option<(u16, i16)>),
    /// `text`, and `varchar(n)` / `char(n)` with the limit in characters.
    Text(Option<u32>),
    /// `name` and `"char"`: texts of at most this many bytes, of which Postgres would cut the rest.
    Short(usize),
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `time without time zone`
    Time,
    /// `timestamp without time zone`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
    /// `uuid`
    Uuid,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// An array; the element's type and its type OID (the binary format names it).
    Array(Box<PgType>, u32),
    /// Anything else (enum, domain, range, extension type): sent as text, cast by the server.
    Cast,
}

mod array;
mod bytes;
mod decimal;
mod json;
mod scalar;
mod text;
mod time;
pub(crate) mod usual;
mod value;
pub(crate) use decimal::floor_shifted;
pub use json::{DEFAULT_DEPTH, unescape, validate, write_escaped, write_string};
pub(crate) use text::push_scaled;
pub use text::write_text;
pub(crate) use time::{date_of_days, days_from_civil, timestamp_of_micros};
pub use value::{CellError, RejectClass, Value};

/// A field of length -1: NULL.
const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// Appends one field of a binary COPY tuple (i32 length, then the bytes; -1 for NULL) to `out`.
///
/// JSON may nest [`DEFAULT_DEPTH`] deep; [`encode_within`] takes another bound.
/// On error `out` may hold a partial field; the caller cuts it back to the row's start.
///
/// # Errors
/// [`CellError`] when the value cannot be brought to the column's type without loss.
pub fn encode(value: &Value<'_>, to: &PgType, out: &mut Vec<u8>) -> Result<(), CellError> {
    encode_within(value, to, DEFAULT_DEPTH, out)
}

/// Does what [`encode`] does with a bound of its own on how deep JSON may nest.
///
/// # Errors
/// [`CellError`] when the value cannot be brought to the column's type without loss.
pub fn encode_within(value: &Value<'_>, to: &PgType, max_depth: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
    match value {
        Value::Null | Value::Absent => {
            out.extend_from_slice(&NULL);
            return Ok(());
        }
        // A scalar that a reader passed as JSON is that scalar, unless the column keeps JSON.
        Value::Json(raw) if !matches!(to, PgType::Json | PgType::Jsonb) => {
            if let Some(scalar) = json::scalar(raw)? {
                return encode_within(&scalar, to, max_depth, out);
            }
        }
        _ => {}
    }
    match to {
        PgType::Bool => scalar::boolean(value, out),
        PgType::Int2 => scalar::int2(value, out),
        PgType::Int4 => scalar::int4(value, out),
        PgType::Int8 => scalar::int8(value, out),
        PgType::Float4 => scalar::float4(value, out),
        PgType::Float8 => scalar::float8(value, out),
        PgType::Numeric(limit) => decimal::numeric(value, *limit, out),
        PgType::Text(limit) => text::text(value, *limit, out),
        PgType::Short(n_bytes) => text::short(value, *n_bytes, out),
        PgType::Bytea => bytes::bytea(value, out),
        PgType::Date => time::date(value, out),
        PgType::Time => time::time(value, out),
        PgType::Timestamp => time::timestamp(value, "timestamp", out),
        PgType::TimestampTz => time::timestamp(value, "timestamptz", out),
        PgType::Uuid => bytes::uuid(value, out),
        PgType::Json => json::json(value, false, max_depth, out),
        PgType::Jsonb => json::json(value, true, max_depth, out),
        PgType::Array(element, oid) => array::array(value, element, *oid, max_depth, out),
        PgType::Cast => text::text(value, None, out),
    }
}

/// Writes a field whose length is known only once `body` has written it.
fn sized(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>) -> Result<(), CellError>) -> Result<(), CellError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out)?;
    let length = i32::try_from(out.len() - start - 4)
        .map_err(|_| CellError::new(RejectClass::Range, "longer than a Postgres field can be"))?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Writes a field whose bytes are there already.
#[inline]
fn whole(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), CellError> {
    let length = i32::try_from(bytes.len())
        .map_err(|_| CellError::new(RejectClass::Range, "longer than a Postgres field can be"))?;
    out.reserve(4 + bytes.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Writes a field of `N` bytes; one append, because this is what most cells are.
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "every encoder ends with it")]
fn fixed<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) -> Result<(), CellError> {
    let mut field = [0u8; 20];
    field[..4].copy_from_slice(&(N as i32).to_be_bytes());
    field[4..4 + N].copy_from_slice(&bytes);
    out.extend_from_slice(&field[..4 + N]);
    Ok(())
}

#[cfg(test)]
mod tests;
