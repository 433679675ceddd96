//! A decoded cell, between the formats and the encoder.

use std::borrow::Cow;

/// One cell as a format hands it over. Every format is brought down to these few shapes.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// The field is there and null.
    Null,
    /// A JSON row did not have the field: the column's default, or NULL.
    Absent,
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// `unscaled / 10^scale`, exactly. A negative scale multiplies.
    Decimal(i128, i8),
    /// A single-precision float.
    Float32(f32),
    /// A double-precision float.
    Float64(f64),
    /// Text the column's type is to be read from: CSV fields, JSON strings, string columns.
    Text(Cow<'a, str>),
    /// A JSON number exactly as written (also decimals wider than 38 digits).
    Number(Cow<'a, str>),
    /// A JSON object or array as written; lists, structs and maps of columnar formats are brought to this.
    Json(Cow<'a, str>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01T00:00:00; `utc` when the value is an instant.
    Timestamp {
        /// Microseconds since the epoch.
        micros: i64,
        /// Whether it is an instant (Parquet's isAdjustedToUTC).
        utc: bool,
    },
    /// A UUID.
    Uuid([u8; 16]),
}

/// Why a value does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellError {
    /// `type`, `range`, `length`, `text`, `json`, `depth` or `not_null`.
    pub class: &'static str,
    /// For people; may quote the value (cut to a few dozen characters).
    pub message: String,
}
