//! What an Avro schema says of a field.

use super::schema::{Schema, Type};
use crate::Declared;

/// Returns the type of a field; in a union NULL says nothing.
pub fn declared(schema: &Schema, field: &Type) -> Declared {
    match schema.resolve(field) {
        Type::Union(branches) => of_union(schema, branches),
        Type::Array(items) => match declared(schema, items) {
            Declared::List(_) | Declared::Nested | Declared::Mixed | Declared::Null => Declared::Nested,
            item => Declared::List(Box::new(item)),
        },
        Type::Map(_) | Type::Record(_) => Declared::Nested,
        Type::Null => Declared::Null,
        Type::Boolean => Declared::Bool,
        Type::Int => Declared::Int(32),
        Type::Long => Declared::Int(64),
        Type::Float => Declared::Float32,
        Type::Double => Declared::Float64,
        Type::Bytes | Type::Fixed(_) => Declared::Bytes,
        Type::String | Type::Enum(_) => Declared::Text,
        // Precision is not read from the schema, so a scale alone would say too little.
        Type::Decimal(..) | Type::BigDecimal => Declared::Decimal(None),
        Type::Uuid(_) => Declared::Uuid,
        Type::Date => Declared::Date,
        Type::TimeMillis | Type::TimeMicros => Declared::Time { nanos: false },
        Type::Timestamp(per_second, utc) => Declared::Timestamp { utc: *utc, nanos: *per_second == 1_000_000_000 },
        Type::Duration => Declared::Interval,
        // Names resolve to definitions; one that did not would hold anything.
        Type::Named(_) => Declared::Mixed,
    }
}

fn of_union(schema: &Schema, branches: &[Type]) -> Declared {
    let mut found = Declared::Null;
    for branch in branches {
        found = match (found, declared(schema, branch)) {
            (found, Declared::Null) => found,
            (Declared::Null, other) => other,
            (Declared::Int(a), Declared::Int(b)) => Declared::Int(a.max(b)),
            (Declared::Float32 | Declared::Float64, Declared::Float32 | Declared::Float64) => Declared::Float64,
            (Declared::List(_) | Declared::Nested, Declared::List(_) | Declared::Nested) => Declared::Nested,
            (found, other) if found == other => found,
            _ => Declared::Mixed,
        };
    }
    found
}
