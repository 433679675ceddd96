//! Postgres types a description proposes.

use decode::{Declared, encode::PgType};
use std::fmt;

/// Postgres's own limit on a declared precision.
const MAX_PRECISION: u32 = 1000;

/// A proposed column type; displays as SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlType {
    /// `boolean`
    Boolean,
    /// `smallint`
    SmallInt,
    /// `integer`
    Integer,
    /// `bigint`
    BigInt,
    /// `numeric`, with precision and scale where the file declares them
    Numeric(Option<(u16, i16)>),
    /// `real`
    Real,
    /// `double precision`
    Double,
    /// `text`
    Text,
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    TimestampTz,
    /// `interval`
    Interval,
    /// `uuid`
    Uuid,
    /// `jsonb`
    Jsonb,
    /// An array of one of the others
    Array(Box<SqlType>),
}

impl SqlType {
    /// Returns the type that holds everything a file's schema allows.
    #[must_use]
    pub fn of_declared(declared: &Declared) -> Self {
        match declared {
            Declared::Bool => Self::Boolean,
            Declared::Int(bits) if *bits <= 16 => Self::SmallInt,
            Declared::Int(bits) if *bits <= 32 => Self::Integer,
            Declared::Int(_) => Self::BigInt,
            Declared::UInt(bits) if *bits <= 8 => Self::SmallInt,
            Declared::UInt(bits) if *bits <= 16 => Self::Integer,
            Declared::UInt(bits) if *bits <= 32 => Self::BigInt,
            Declared::UInt(_) => Self::Numeric(Some((20, 0))),
            Declared::Float32 => Self::Real,
            Declared::Float64 => Self::Double,
            Declared::Decimal(limits) => Self::Numeric(limits.and_then(|(precision, scale)| {
                // Postgres before 15 wants the scale within the precision.
                let usable = precision <= MAX_PRECISION && scale <= precision;
                usable.then_some((u16::try_from(precision).ok()?, i16::try_from(scale).ok()?))
            })),
            Declared::Date => Self::Date,
            Declared::Time { .. } => Self::Time,
            Declared::Timestamp { utc: true, .. } => Self::TimestampTz,
            Declared::Timestamp { utc: false, .. } | Declared::Int96 => Self::Timestamp,
            Declared::Text | Declared::Mixed | Declared::Null => Self::Text,
            Declared::Json | Declared::Nested => Self::Jsonb,
            Declared::Uuid => Self::Uuid,
            Declared::Bytes => Self::Bytea,
            Declared::Interval => Self::Interval,
            Declared::List(item) => match Self::of_declared(item) {
                // Their elements travel as JSON text, which the importer does not read back into these.
                Self::Bytea | Self::Interval | Self::Jsonb | Self::Array(_) => Self::Jsonb,
                item => Self::Array(Box::new(item)),
            },
        }
    }

    /// Returns the next type that holds more, when this one refused a value; None when nothing does.
    #[must_use]
    pub fn wider(&self) -> Option<Self> {
        match self {
            Self::SmallInt => Some(Self::Integer),
            Self::Integer => Some(Self::BigInt),
            Self::BigInt | Self::Numeric(Some(_)) => Some(Self::Numeric(None)),
            Self::Real => Some(Self::Double),
            Self::Array(_) => Some(Self::Jsonb),
            Self::Text => None,
            _ => Some(Self::Text),
        }
    }

    /// Returns how the importer writes such a column.
    #[must_use]
    pub fn pg_type(&self) -> PgType {
        match self {
            Self::Boolean => PgType::Bool,
            Self::SmallInt => PgType::Int2,
            Self::Integer => PgType::Int4,
            Self::BigInt => PgType::Int8,
            Self::Numeric(limits) => PgType::Numeric(*limits),
            Self::Real => PgType::Float4,
            Self::Double => PgType::Float8,
            Self::Text => PgType::Text(None),
            Self::Bytea => PgType::Bytea,
            Self::Date => PgType::Date,
            Self::Time => PgType::Time,
            Self::Timestamp => PgType::Timestamp,
            Self::TimestampTz => PgType::TimestampTz,
            Self::Interval => PgType::Cast,
            Self::Uuid => PgType::Uuid,
            Self::Jsonb => PgType::Jsonb,
            // The element's OID only travels along; nothing here sends it.
            Self::Array(item) => PgType::Array(Box::new(item.pg_type()), 0),
        }
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Boolean => "boolean",
            Self::SmallInt => "smallint",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Numeric(None) => "numeric",
            Self::Numeric(Some((precision, 0))) => return write!(f, "numeric({precision})"),
            Self::Numeric(Some((precision, scale))) => return write!(f, "numeric({precision}, {scale})"),
            Self::Real => "real",
            Self::Double => "double precision",
            Self::Text => "text",
            Self::Bytea => "bytea",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::Interval => "interval",
            Self::Uuid => "uuid",
            Self::Jsonb => "jsonb",
            Self::Array(item) => return write!(f, "{item}[]"),
        };
        f.write_str(name)
    }
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
            assert_eq!(SqlType::of_declared(&declared).to_string(), expected, "{declared:?}");
        }
    }

    #[test]
    fn every_type_widens_until_it_is_text() {
        for start in [SqlType::SmallInt, SqlType::Real, SqlType::Array(Box::new(SqlType::Uuid)), SqlType::Date] {
            let mut at = start.clone();
            for _ in 0..5 {
                at = at.wider().unwrap_or(at);
            }
            assert_eq!(at, SqlType::Text, "{start}");
        }
    }
}
