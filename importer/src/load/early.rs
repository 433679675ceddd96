//! What of `where` is applied before rows are encoded: comparisons of fields with constants that are here what they are
//! to Postgres.
//!
//! `config/conjuncts.rs` recognises the comparisons, `decode/src/condition.rs` asks them of rows, and
//! `decode/src/parquet/statistics.rs` of row groups.
//!
//! They are asked of the bytes that a field is sent as, so a value is read once and in one way. Taken are types whose
//! bytes tell order and equality as Postgres has them, and constants that Postgres reads in one way whatever its settings
//! are. Texts are compared for equality only, under collations that tell two texts apart by their bytes.

use super::catalog::{Table, TableColumn};
use crate::config::{
    Dataset,
    conjuncts::{Compared, Comparison, Constant, conjuncts},
};
use decode::{
    condition::{Condition, Test, Values, rank},
    encode::{self, PgType, Value},
};
use sqlx::PgConnection;
use std::{cmp::Ordering, collections::BTreeSet, ops::RangeInclusive};

/// What becomes of a dataset's `where`.
#[derive(Debug, Clone, Default)]
pub struct Early {
    /// What is asked of rows before they are encoded.
    pub conditions: Vec<Condition>,
    /// The parts of `where`, and whether each is among them.
    pub parts: Vec<(String, bool)>,
}

impl Early {
    /// Takes a dataset's `where` apart; `columns` are those of `input`.
    ///
    /// # Errors
    /// Of the database.
    pub async fn of(
        connection: &mut PgConnection,
        dataset: &Dataset,
        table: &Table,
        columns: &[TableColumn],
    ) -> sqlx::Result<Self> {
        let mut early = Self::default();
        let Some(condition) = &dataset.condition else { return Ok(early) };
        // A program's rows are known by the number of what it was asked about; those go through Postgres.
        let may_be_early = dataset.command.is_empty() && !has_operators(connection, table).await?;
        for conjunct in conjuncts(condition) {
            let comparison = conjunct.comparison.filter(|_| may_be_early);
            let found = comparison.and_then(|Comparison { field, with }| {
                let column = columns.iter().find(|column| column.column.name == field)?;
                Some(Condition { column: field, test: test(column, &with, table.takes_any_text)? })
            });
            early.parts.push((conjunct.sql, found.is_some()));
            early.conditions.extend(found);
        }
        Ok(early)
    }

    /// Returns whether nothing of `where` is left to Postgres.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.parts.iter().all(|(_, is_early)| *is_early)
    }

    /// Returns whether it asks about a field.
    #[must_use]
    pub fn asks(&self, field: &str) -> bool {
        self.conditions.iter().any(|condition| condition.column == field)
    }
}

/// Returns whether the schema of the table, where names are looked for, has comparisons of its own of built-in types.
async fn has_operators(connection: &mut PgConnection, table: &Table) -> sqlx::Result<bool> {
    // FirstNormalObjectId.
    let sql = "SELECT EXISTS (SELECT FROM pg_operator o JOIN pg_class c ON c.relnamespace = o.oprnamespace \
               WHERE c.oid = $1::oid AND o.oprname IN ('=', '<>', '<', '<=', '>', '>=') \
                 AND o.oprleft < 16384 AND o.oprright < 16384)";
    sqlx::query_scalar(sql).bind(table.oid).fetch_one(connection).await
}

/// The types whose values are compared here, as the catalog calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Bool,
    Integer,
    Date,
    Timestamp,
    TimestampTz,
    Uuid,
    Text,
}

impl Type {
    fn of(column: &TableColumn, takes_any_text: bool) -> Option<Self> {
        // With a modifier, Postgres would round a time once more. A database that does not have all characters may make one
        // of two.
        Some(match column.type_sql.as_str() {
            "boolean" => Self::Bool,
            "smallint" | "integer" | "bigint" => Self::Integer,
            "date" => Self::Date,
            "timestamp without time zone" => Self::Timestamp,
            "timestamp with time zone" => Self::TimestampTz,
            "uuid" => Self::Uuid,
            "text" | "character varying" if takes_any_text && tells_bytes_apart(column) => Self::Text,
            varchar if varchar.starts_with("character varying(") && takes_any_text && tells_bytes_apart(column) => {
                Self::Text
            }
            _ => return None,
        })
    }

    /// The name by which a constant may be of it.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Date => Some("date"),
            Self::Timestamp => Some("timestamp"),
            Self::TimestampTz => Some("timestamptz"),
            Self::Uuid => Some("uuid"),
            Self::Text => Some("text"),
            Self::Bool | Self::Integer => None,
        }
    }
}

/// Returns whether the column's collation is deterministic in any database. The default one always is.
fn tells_bytes_apart(column: &TableColumn) -> bool {
    let of_catalog = |name: &str| column.collate_sql == format!(" COLLATE \"pg_catalog\".\"{name}\"");
    column.collate_sql.is_empty() || ["default", "C", "POSIX", "ucs_basic"].into_iter().any(of_catalog)
}

/// Returns which values of a column a comparison holds for; none where that is Postgres's to say.
fn test(column: &TableColumn, with: &Compared, takes_any_text: bool) -> Option<Test> {
    if let Compared::Null(is_null) = *with {
        let is_plain = !matches!(column.column.pg_type, PgType::Cast | PgType::Short(_));
        let values = if is_null { Values::none() } else { Values::Any };
        return is_plain.then_some(Test { null: is_null, values });
    }
    let of = Of { kind: Type::of(column, takes_any_text)?, pg_type: &column.column.pg_type };
    let (null, values) = match with {
        Compared::Null(_) => return None,
        Compared::By(holds, constant) => (false, of.by(holds, constant)?),
        Compared::Among(constants, inside) => (false, of.among(constants, *inside)?),
        Compared::Between(from, to, inside) => (false, Values::within([of.point(from)?..=of.point(to)?], *inside)),
        Compared::Truth(truth, is_plain) => (!is_plain, of.truth(*truth == *is_plain)?),
        Compared::Same(constant, is_same) => (!is_same, of.among(std::slice::from_ref(constant), *is_same)?),
        Compared::Itself(truth) => (false, of.truth(*truth)?),
    };
    Some(Test { null, values })
}

/// Values of one column.
struct Of<'a> {
    kind: Type,
    pg_type: &'a PgType,
}

impl Of<'_> {
    fn by(&self, holds: &[Ordering], constant: &Constant) -> Option<Values> {
        match holds {
            [Ordering::Equal] => return self.among(std::slice::from_ref(constant), true),
            [Ordering::Less, Ordering::Greater] => return self.among(std::slice::from_ref(constant), false),
            _ => {}
        }
        let point = self.point(constant)?;
        let range: RangeInclusive<u128> = match holds {
            [Ordering::Less] => return Some(Values::within([point..=u128::MAX], false)),
            [Ordering::Less, Ordering::Equal] => 0..=point,
            [Ordering::Greater] => return Some(Values::within([0..=point], false)),
            [Ordering::Greater, Ordering::Equal] => point..=u128::MAX,
            _ => return None,
        };
        Some(Values::within([range], true))
    }

    fn among(&self, constants: &[Constant], inside: bool) -> Option<Values> {
        if self.kind == Type::Text {
            let texts: Option<BTreeSet<Vec<u8>>> =
                constants.iter().map(|constant| Some(self.written(constant)?.as_bytes().to_vec())).collect();
            return Some(Values::Among(texts?, inside));
        }
        let points: Option<Vec<_>> =
            constants.iter().map(|constant| self.point(constant).map(|point| point..=point)).collect();
        Some(Values::within(points?, inside))
    }

    fn truth(&self, truth: bool) -> Option<Values> {
        self.among(&[Constant::Truth(truth)], true).filter(|_| self.kind == Type::Bool)
    }

    /// Returns the place of a constant among the values of the type.
    fn point(&self, constant: &Constant) -> Option<u128> {
        match (self.kind, constant) {
            (Type::Bool, Constant::Truth(truth)) => rank(&[u8::from(*truth)]),
            // Of whatever integer type the constant is: those compare as numbers.
            (Type::Integer, Constant::Number(digits)) => rank(&digits.parse::<i64>().ok()?.to_be_bytes()),
            (Type::Integer, Constant::Text(digits)) => {
                let number: i64 = digits.parse().ok()?;
                (number.to_string() == *digits).then(|| self.encoded(digits)).flatten()
            }
            (Type::Bool | Type::Integer | Type::Text, _) => None,
            (kind, constant) => {
                let text = self.written(constant)?;
                is_unambiguous(kind, text).then(|| self.encoded(text)).flatten()
            }
        }
    }

    /// Returns the text of a constant that takes the column's type, or is of it.
    fn written<'c>(&self, constant: &'c Constant) -> Option<&'c str> {
        match constant {
            Constant::Text(text) => Some(text),
            Constant::Typed(name, text) => (self.kind.name() == Some(name)).then_some(text),
            Constant::Number(_) | Constant::Truth(_) => None,
        }
    }

    /// Reads a text as a field of the column would be.
    fn encoded(&self, text: &str) -> Option<u128> {
        let mut field = Vec::new();
        encode::encode(&Value::Text(text.into()), self.pg_type, &mut field).ok()?;
        rank(field.get(4..)?)
    }
}

/// Returns whether Postgres reads a text in one way, whatever `DateStyle` and `TimeZone` are, and to the microsecond.
fn is_unambiguous(kind: Type, text: &str) -> bool {
    let bytes = text.as_bytes();
    let has_form = |bytes: &[u8], form: &str| {
        bytes.len() == form.len()
            && bytes.iter().zip(form.bytes()).all(|(byte, wanted)| match wanted {
                b'9' => byte.is_ascii_digit(),
                b'x' => byte.is_ascii_hexdigit(),
                other => *byte == other,
            })
    };
    if kind == Type::Uuid {
        return has_form(bytes, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
    }
    let (date, rest) = bytes.split_at(bytes.len().min(10));
    if !has_form(date, "9999-99-99") || date.starts_with(b"0000") {
        return false;
    }
    if kind == Type::Date || (kind == Type::Timestamp && rest.is_empty()) {
        return rest.is_empty();
    }
    let (time, rest) = rest.split_at(rest.len().min(9));
    let is_time = has_form(time, " 99:99:99") || has_form(time, "T99:99:99");
    // No 24:00:00, and no second 60.
    if !is_time || time[1..3] > b"23"[..] || time[4..6] > b"59"[..] || time[7..9] > b"59"[..] {
        return false;
    }
    let n_digits = rest.strip_prefix(b".").map_or(0, |digits| digits.iter().take_while(|d| d.is_ascii_digit()).count());
    let zone = if n_digits > 0 { &rest[n_digits + 1..] } else { rest };
    let is_offset = |form: &str| has_form(zone, form) && zone[1..3] <= b"14"[..];
    n_digits <= 6
        && match kind {
            Type::Timestamp => zone.is_empty(),
            _ => zone == b"Z" || ["+99", "-99", "+99:00", "-99:00", "+99:30", "-99:30"].into_iter().any(is_offset),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decode::Column;

    fn column(type_sql: &str, pg_type: PgType) -> TableColumn {
        let column = Column { name: "a".into(), pg_type, not_null: false, has_default: false };
        TableColumn::staged_only(column, type_sql)
    }

    fn found(column: &TableColumn, sql: &str) -> Option<Test> {
        let mut parts = conjuncts(sql);
        assert_eq!(parts.len(), 1, "{sql}");
        test(column, &parts.pop()?.comparison?.with, true)
    }

    #[test]
    fn times_are_taken_where_postgres_reads_them_in_one_way() {
        let date = column("date", PgType::Date);
        let plain = column("timestamp without time zone", PgType::Timestamp);
        let zoned = column("timestamp with time zone", PgType::TimestampTz);
        for (column, constant, is_early) in [
            (&date, "'2026-02-28'", true),
            (&date, "date '2026-02-28'", true),
            (&date, "'2026-02-28'::date", true),
            (&date, "timestamp '2026-02-28'", false),
            (&date, "'2026-02-30'", false),
            (&date, "'02/03/2026'", false),
            (&date, "'2026-2-28'", false),
            (&date, "'0000-01-01'", false),
            (&date, "'infinity'", false),
            (&date, "'today'", false),
            (&date, "20260228", false),
            (&plain, "'2026-02-28'", true),
            (&plain, "'2026-02-28 23:59:59.123456'", true),
            (&plain, "'2026-02-28T23:59:59'", true),
            (&plain, "'2026-02-28 23:59:59.1234567'", false),
            (&plain, "'2026-02-28 24:00:00'", false),
            (&plain, "'2026-02-28 23:59:60'", false),
            (&plain, "'2026-02-28 23:59:59.'", false),
            (&plain, "'2026-02-28 23:59:59Z'", false),
            (&plain, "date '2026-02-28'", false),
            (&zoned, "'2026-02-28 23:59:59.5+01'", true),
            (&zoned, "'2026-02-28 23:59:59Z'", true),
            (&zoned, "timestamptz '2026-02-28 23:59:59-09:30'", true),
            (&zoned, "'2026-02-28 23:59:59'", false),
            (&zoned, "'2026-02-28'", false),
            (&zoned, "'2026-02-28 23:59:59 CET'", false),
        ] {
            let sql = format!("input.a < {constant}");
            assert_eq!(found(column, &sql).is_some(), is_early, "{} {sql}", column.type_sql);
        }
    }

    #[test]
    fn other_types_and_collations_are_left_to_postgres() {
        let early = |type_sql: &str, pg_type, sql: &str| found(&column(type_sql, pg_type), sql).is_some();
        assert!(early("text", PgType::Text(None), "input.a = 'x'"));
        assert!(early("character varying(3)", PgType::Text(Some(3)), "input.a NOT IN ('x', 'y')"));
        assert!(!early("text", PgType::Text(None), "input.a < 'x'"));
        assert!(!early("text", PgType::Text(None), "input.a = 5"));
        assert!(!early("character(3)", PgType::Text(Some(3)), "input.a = 'x'"));
        assert!(!early("public.country", PgType::Cast, "input.a = 'x'"));
        assert!(!early("public.country", PgType::Cast, "input.a IS NULL"));
        assert!(early("character(3)", PgType::Text(Some(3)), "input.a IS NULL"));
        assert!(early("jsonb", PgType::Jsonb, "input.a IS NOT NULL"));
        assert!(!early("double precision", PgType::Float8, "input.a = 1"));
        assert!(!early("numeric", PgType::Numeric(None), "input.a = 1"));
        assert!(!early("timestamp(3) without time zone", PgType::Timestamp, "input.a < '2026-01-01'"));
        assert!(early("bigint", PgType::Int8, "input.a = '-7'"));
        for constant in ["'007'", "' 7'", "true", "9223372036854775808", "'70000000000'"] {
            assert!(!early("integer", PgType::Int4, &format!("input.a = {constant}")), "{constant}");
        }
        let mut collated = column("text", PgType::Text(None));
        for (collation, is_early) in [("\"pg_catalog\".\"C\"", true), ("\"public\".\"C\"", false)] {
            collated.collate_sql = format!(" COLLATE {collation}");
            assert_eq!(found(&collated, "input.a = 'x'").is_some(), is_early, "{collation}");
        }
        assert_eq!(
            test(
                &column("text", PgType::Text(None)),
                &Compared::By(&[Ordering::Equal], Constant::Text("x".into())),
                false
            ),
            None
        );
    }

    #[test]
    fn comparisons_hold_for_what_they_say() {
        let int = column("smallint", PgType::Int2);
        let takes = |sql: &str| -> Vec<String> {
            let test = found(&int, sql).expect(sql);
            let fields = [None, Some(-1i16), Some(4), Some(5), Some(6)];
            let passes = fields.into_iter().filter(|field| {
                test.takes(&field.map_or(vec![0xFF; 4], |value| [&[0, 0, 0, 2][..], &value.to_be_bytes()].concat()))
            });
            passes.map(|field| field.map_or("null".into(), |value| value.to_string())).collect()
        };
        for (sql, expected) in [
            ("input.a < 5", "-1 4"),
            ("input.a <= 5", "-1 4 5"),
            ("input.a > 5", "6"),
            ("5 > input.a", "-1 4"),
            ("input.a >= 5", "5 6"),
            ("input.a = '5'", "5"),
            ("input.a <> 5", "-1 4 6"),
            ("input.a < 100000", "-1 4 5 6"),
            ("input.a > 100000", ""),
            ("input.a < -9223372036854775808", ""),
            ("input.a > 9223372036854775807", ""),
            ("input.a IN (4, 6, 6)", "4 6"),
            ("input.a NOT IN (4, 6)", "-1 5"),
            ("input.a BETWEEN 4 AND 5", "4 5"),
            ("input.a BETWEEN 5 AND 4", ""),
            ("input.a NOT BETWEEN 5 AND 4", "-1 4 5 6"),
            ("input.a NOT BETWEEN 4 AND 5", "-1 6"),
            ("input.a IS NULL", "null"),
            ("input.a IS NOT NULL", "-1 4 5 6"),
            ("input.a IS DISTINCT FROM 5", "null -1 4 6"),
            ("input.a IS NOT DISTINCT FROM 5", "5"),
        ] {
            assert_eq!(takes(sql).join(" "), expected, "{sql}");
        }
        let truth = column("boolean", PgType::Bool);
        for (sql, expected) in [
            ("input.a", [false, false, true]),
            ("NOT input.a", [false, true, false]),
            ("input.a IS TRUE", [false, false, true]),
            ("input.a IS NOT TRUE", [true, true, false]),
            ("input.a IS NOT FALSE", [true, false, true]),
            ("input.a IS UNKNOWN", [true, false, false]),
            ("input.a <> true", [false, true, false]),
        ] {
            let test = found(&truth, sql).expect(sql);
            let fields = [&[0xFF; 4][..], &[0, 0, 0, 1, 0], &[0, 0, 0, 1, 1]];
            assert_eq!(fields.map(|field| test.takes(field)), expected, "{sql}");
        }
        assert_eq!(found(&int, "input.a"), None);
    }
}
