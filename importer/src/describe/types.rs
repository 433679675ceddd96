//! Postgres types a description proposes.

use decode::{Declared, encode::PgType};

/// Postgres's own limit on a declared precision.
const MAX_PRECISION: u32 = 1000;

/// Returns the type that holds everything a file's schema allows.
#[must_use]
pub fn of_declared(declared: &Declared) -> PgType {
    match declared {
        Declared::Bool => PgType::Bool,
        Declared::Int(bits) if *bits <= 16 => PgType::Int2,
        Declared::Int(bits) if *bits <= 32 => PgType::Int4,
        Declared::Int(_) => PgType::Int8,
        Declared::UInt(bits) if *bits <= 8 => PgType::Int2,
        Declared::UInt(bits) if *bits <= 16 => PgType::Int4,
        Declared::UInt(bits) if *bits <= 32 => PgType::Int8,
        Declared::UInt(_) => PgType::Numeric(Some((20, 0))),
        Declared::Float32 => PgType::Float4,
        Declared::Float64 => PgType::Float8,
        Declared::Decimal(limits) => PgType::Numeric(limits.and_then(|(precision, scale)| {
            // Postgres before 15 wants the scale within the precision.
            let usable = precision <= MAX_PRECISION && scale <= precision;
            usable.then_some((u16::try_from(precision).ok()?, i16::try_from(scale).ok()?))
        })),
        Declared::Date => PgType::Date,
        Declared::Time { .. } => PgType::Time,
        Declared::Timestamp { utc: true, .. } => PgType::TimestampTz,
        Declared::Timestamp { utc: false, .. } | Declared::Int96 => PgType::Timestamp,
        Declared::Text | Declared::Mixed | Declared::Null => PgType::Text(None),
        Declared::Json | Declared::Nested => PgType::Jsonb,
        Declared::Uuid => PgType::Uuid,
        Declared::Bytes => PgType::Bytea,
        Declared::Interval => PgType::Cast,
        Declared::List(item) => match of_declared(item) {
            // Their elements travel as JSON text, which the importer does not read back into these.
            PgType::Bytea | PgType::Cast | PgType::Jsonb | PgType::Array(..) => PgType::Jsonb,
            // The OID only travels along; nothing here sends it.
            item => PgType::Array(Box::new(item), 0),
        },
    }
}

/// Returns the next type that holds more, when this one refused a value; None when nothing does.
#[must_use]
pub fn wider(of: &PgType) -> Option<PgType> {
    match of {
        PgType::Int2 => Some(PgType::Int4),
        PgType::Int4 => Some(PgType::Int8),
        PgType::Int8 | PgType::Numeric(Some(_)) => Some(PgType::Numeric(None)),
        PgType::Float4 => Some(PgType::Float8),
        PgType::Array(..) => Some(PgType::Jsonb),
        PgType::Text(_) => None,
        _ => Some(PgType::Text(None)),
    }
}

/// Returns a proposed type as SQL.
#[must_use]
pub fn name(of: &PgType) -> String {
    let name = match of {
        PgType::Bool => "boolean",
        PgType::Int2 => "smallint",
        PgType::Int4 => "integer",
        PgType::Int8 => "bigint",
        PgType::Numeric(None) => "numeric",
        PgType::Numeric(Some((precision, 0))) => return format!("numeric({precision})"),
        PgType::Numeric(Some((precision, scale))) => return format!("numeric({precision}, {scale})"),
        PgType::Float4 => "real",
        PgType::Float8 => "double precision",
        PgType::Text(_) | PgType::Short(_) => "text",
        PgType::Bytea => "bytea",
        PgType::Date => "date",
        PgType::Time => "time",
        PgType::Timestamp => "timestamp",
        PgType::TimestampTz => "timestamptz",
        // The only such type that is proposed.
        PgType::Cast => "interval",
        PgType::Uuid => "uuid",
        PgType::Json => "json",
        PgType::Jsonb => "jsonb",
        PgType::Array(item, _) => return format!("{}[]", name(item)),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_become_types_that_hold_all_of_them() {
        let timestamp = |utc| Declared::Timestamp { utc, nanos: false };
        for (declared, expected) in [
            (Declared::Bool, "boolean"),
            (Declared::Int(8), "smallint"),
            (Declared::Int(16), "smallint"),
            (Declared::Int(32), "integer"),
            (Declared::Int(64), "bigint"),
            (Declared::UInt(8), "smallint"),
            (Declared::UInt(16), "integer"),
            (Declared::UInt(32), "bigint"),
            (Declared::UInt(64), "numeric(20)"),
            (Declared::Float32, "real"),
            (Declared::Float64, "double precision"),
            (Declared::Decimal(Some((12, 4))), "numeric(12, 4)"),
            (Declared::Decimal(Some((5000, 4))), "numeric"),
            (Declared::Decimal(Some((2, 4))), "numeric"),
            (Declared::Decimal(None), "numeric"),
            (Declared::Date, "date"),
            (Declared::Time { nanos: true }, "time"),
            (timestamp(true), "timestamptz"),
            (timestamp(false), "timestamp"),
            (Declared::Int96, "timestamp"),
            (Declared::Text, "text"),
            (Declared::Json, "jsonb"),
            (Declared::Uuid, "uuid"),
            (Declared::Bytes, "bytea"),
            (Declared::Interval, "interval"),
            (Declared::Nested, "jsonb"),
            (Declared::Mixed, "text"),
            (Declared::Null, "text"),
            (Declared::List(Box::new(Declared::Text)), "text[]"),
            (Declared::List(Box::new(Declared::Decimal(Some((9, 2))))), "numeric(9, 2)[]"),
            (Declared::List(Box::new(timestamp(true))), "timestamptz[]"),
            (Declared::List(Box::new(Declared::Bytes)), "jsonb"),
            (Declared::List(Box::new(Declared::Nested)), "jsonb"),
        ] {
            assert_eq!(name(&of_declared(&declared)), expected, "{declared:?}");
        }
    }

    #[test]
    fn every_type_widens_until_it_is_text() {
        for start in [PgType::Int2, PgType::Float4, PgType::Array(Box::new(PgType::Uuid), 0), PgType::Date] {
            let mut at = start.clone();
            for _ in 0..5 {
                at = wider(&at).unwrap_or(at);
            }
            assert_eq!(at, PgType::Text(None), "{start:?}");
        }
    }
}
