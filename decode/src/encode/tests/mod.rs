//! The conversion matrix, cell by cell.

mod arrays;
mod documents;
mod laws;
mod numbers;
mod texts;
mod times;
mod usual;

use super::{CellError, PgType, RejectClass, Value, encode, encode_within};

/// Returns the encoded field without its length, which is checked; None for NULL.
fn field(value: &Value<'_>, to: &PgType) -> Result<Option<Vec<u8>>, CellError> {
    let mut out = b"before".to_vec();
    encode(value, to, &mut out)?;
    let (length, bytes) = out[6..].split_first_chunk().expect("a length");
    match i32::from_be_bytes(*length) {
        -1 => {
            assert!(bytes.is_empty());
            Ok(None)
        }
        length => {
            assert_eq!(length as usize, bytes.len());
            Ok(Some(bytes.to_vec()))
        }
    }
}

#[track_caller]
fn check(value: Value<'_>, to: PgType, expected: &[u8]) {
    let field = field(&value, &to).unwrap_or_else(|error| panic!("{value:?} → {to:?}: {error:?}"));
    assert_eq!(field.as_deref(), Some(expected), "{value:?} → {to:?}");
}

#[track_caller]
fn refused(value: Value<'_>, to: PgType, class: &str) {
    match field(&value, &to) {
        Err(error) => {
            assert_eq!(<&str>::from(error.class), class, "{value:?} → {to:?}: {}", error.message);
            assert!(error.message.len() < 400, "the message quotes too much: {}", error.message.len());
            assert!(!error.message.contains('\0'), "the ledger could not keep the message");
        }
        Ok(field) => panic!("{value:?} → {to:?} is {field:?}, not refused as {class}"),
    }
}

fn text(text: &str) -> Value<'_> {
    Value::Text(text.into())
}

fn number(text: &str) -> Value<'_> {
    Value::Number(text.into())
}

fn json(text: &str) -> Value<'_> {
    Value::Json(text.into())
}

fn bytes(bytes: &[u8]) -> Value<'_> {
    Value::Bytes(bytes.into())
}

#[test]
fn null_and_absent_are_null_in_every_column() {
    for to in
        [PgType::Bool, PgType::Numeric(None), PgType::Jsonb, PgType::Array(Box::new(PgType::Int4), 23), PgType::Cast]
    {
        assert_eq!(field(&Value::Null, &to), Ok(None));
        assert_eq!(field(&Value::Absent, &to), Ok(None));
    }
}

#[test]
fn json_scalars_are_their_scalars_outside_json_columns() {
    check(json("5"), PgType::Int4, &5i32.to_be_bytes());
    check(json(" true "), PgType::Bool, &[1]);
    check(json(r#""a\u00e9\n""#), PgType::Text(None), "aé\n".as_bytes());
    check(json(r#""2000-01-02""#), PgType::Date, &1i32.to_be_bytes());
    assert_eq!(field(&json("null"), &PgType::Int4), Ok(None));
    refused(json("[5]"), PgType::Int4, "type");
    refused(json("{"), PgType::Bool, "type");
    refused(json("nonsense"), PgType::Text(None), "json");
}

#[test]
fn types_that_have_nothing_in_common_are_refused() {
    refused(Value::Bool(true), PgType::Int4, "type");
    refused(Value::Bool(true), PgType::Float8, "type");
    refused(Value::Bool(true), PgType::Numeric(None), "type");
    refused(Value::Int(20_240_102), PgType::Date, "type");
    refused(Value::Int(0), PgType::Timestamp, "type");
    refused(Value::Date(0), PgType::Int4, "type");
    refused(Value::Date(0), PgType::Time, "type");
    refused(Value::Float64(1.0), PgType::Bool, "type");
    refused(Value::Int(1), PgType::Uuid, "type");
    refused(Value::Int(1), PgType::Bytea, "type");
    refused(bytes(b"x"), PgType::Int8, "type");
    refused(Value::Int(1), PgType::Array(Box::new(PgType::Int4), 23), "type");
}
