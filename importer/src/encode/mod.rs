//! From a decoded cell to the bytes Postgres's binary COPY wants, chosen by the target column.
//!
//! Pure: no clock, no network. The type of the *column* decides how a value is read
//! (the contract's «Types»); a value that does not fit is a [`CellError`], never a wrap
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

mod value;
pub use value::{CellError, Value};

/// Appends one field of a binary COPY tuple (i32 length, then the bytes; -1 for NULL) to `out`.
///
/// On error `out` may hold a partial field; the caller cuts it back to the row's start.
///
/// # Errors
/// [`CellError`] when the value cannot be brought to the column's type without loss.
pub fn encode(_value: &Value<'_>, _to: &PgType, _out: &mut Vec<u8>) -> Result<(), CellError> {
    Err(CellError { class: "type", message: "no encoder".into() })
}
