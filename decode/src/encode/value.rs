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

/// What is wrong with a row that is rejected. Written as `snake_case`, it is the class of `penstock.reject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RejectClass {
    /// A value is not of its column's type.
    Type,
    /// A value is out of the type's range.
    Range,
    /// A text is too long for its column.
    Length,
    /// A text has characters that Postgres or the file's encoding do not have.
    Text,
    /// A JSON value is malformed.
    Json,
    /// A JSON value is nested too deep.
    Depth,
    /// NULL where the column does not allow it.
    NotNull,
    /// The row cannot be taken apart.
    Syntax,
    /// The row is too long.
    RowSize,
    /// The row has a field that no column takes.
    NewField,
    /// The dataset's program refused the row.
    Command,
}

/// Why a value does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellError {
    /// What is wrong with it.
    pub class: RejectClass,
    /// For people; may quote the value (cut to a few dozen characters).
    pub message: String,
}

impl CellError {
    /// Returns an error of a class, with a message for people.
    #[must_use]
    pub fn new(class: RejectClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// Returns the `type` error for a value that is nothing the column's type could hold.
    #[cold]
    pub(super) fn mismatch(value: &Value<'_>, to: &str) -> Self {
        Self::new(RejectClass::Type, format!("{} is not a valid {to}", value.excerpt()))
    }

    /// Returns the `range` error for a value of the right kind that the column's type cannot hold.
    #[cold]
    pub(super) fn out_of_range(value: &Value<'_>, to: &str) -> Self {
        Self::new(RejectClass::Range, format!("{} is out of range for {to}", value.excerpt()))
    }
}

impl Value<'_> {
    /// Returns the value's beginning for a message: enough to recognise it, never a whole document.
    pub(super) fn excerpt(&self) -> String {
        match self {
            Value::Text(text) => quote(text),
            Value::Number(text) | Value::Json(text) => cut(text).replace(char::is_control, " "),
            Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Value::Null | Value::Absent => "null".into(),
            other => {
                let mut text = Vec::new();
                super::write_text(other, &mut text);
                String::from_utf8_lossy(&text).into_owned()
            }
        }
    }
}

/// Longer texts are cut in messages: rejects are read by people, and the payload holds the whole.
const EXCERPT_CHARS: usize = 48;

fn cut(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

pub(super) fn quote(text: &str) -> String {
    // Debug formatting keeps control characters (U+0000 above all) out of the message.
    format!("{:?}", cut(text))
}
