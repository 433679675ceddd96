//! What a report returned: columns and rows, each value as Postgres writes it.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::{Number, Value};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Whole numbers.
    Integer,
    /// Other numbers.
    Number,
    /// Days.
    Date,
    /// Points in time, in UTC.
    Time,
    /// `true` and `false`.
    Boolean,
    /// All else.
    Text,
}

impl Kind {
    /// Returns what a type of Postgres holds.
    #[must_use]
    pub fn of(type_name: &str) -> Self {
        match type_name {
            "INT2" | "INT4" | "INT8" => Self::Integer,
            "FLOAT4" | "FLOAT8" | "NUMERIC" => Self::Number,
            "DATE" => Self::Date,
            "TIMESTAMP" | "TIMESTAMPTZ" => Self::Time,
            "BOOL" => Self::Boolean,
            _ => Self::Text,
        }
    }

    /// Returns whether it can be counted and drawn.
    #[must_use]
    pub fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Number)
    }

    /// Returns whether it is a point in time.
    #[must_use]
    pub fn is_time(self) -> bool {
        matches!(self, Self::Date | Self::Time)
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name; several may have the same.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows; a value that is missing is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether there are more rows than are kept.
    pub is_cut: bool,
}

impl Table {
    /// Returns a value as a number, a time as seconds since 1970; NaN where it is none.
    #[must_use]
    pub fn number(&self, row: usize, column: usize) -> f64 {
        let value = self.rows.get(row).and_then(|row| row.get(column)?.as_deref());
        let kind = self.columns.get(column).map(|column| column.kind);
        let number = match (value, kind) {
            (Some(text), Some(kind)) if kind.is_time() => seconds(text),
            (Some(text), Some(kind)) if kind.is_number() => text.parse().ok(),
            _ => None,
        };
        number.filter(|number: &f64| number.is_finite()).unwrap_or(f64::NAN)
    }

    /// Returns it as CSV (RFC 4180). A text that spreadsheets would take for a formula has an apostrophe before it.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut csv = String::new();
        let mut line = |cells: Vec<String>| csv.extend([cells.join(",").as_str(), "\r\n"]);
        line(self.columns.iter().map(|column| cell(&column.name, Kind::Text)).collect());
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns);
            line(
                cells
                    .map(|(value, column)| value.as_deref().map_or(String::new(), |text| cell(text, column.kind)))
                    .collect(),
            );
        }
        csv
    }
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = |row: &Vec<Option<String>>| -> Vec<Value> {
            let values = row.iter().zip(&self.columns);
            values.map(|(value, column)| value.as_deref().map_or(Value::Null, |text| json(text, column.kind))).collect()
        };
        let mut table = serializer.serialize_struct("Table", 3)?;
        table.serialize_field("columns", &self.columns)?;
        table.serialize_field("rows", &self.rows.iter().map(row).collect::<Vec<_>>())?;
        table.serialize_field("is_cut", &self.is_cut)?;
        table.end()
    }
}

/// Returns seconds since 1970 of a date or a time in UTC; none of what has no place there, such as `infinity`.
fn seconds(text: &str) -> Option<f64> {
    let text = text.strip_suffix("+00").unwrap_or(text);
    let at = match NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f") {
        Ok(at) => at,
        Err(_) => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN),
    };
    Some(at.and_utc().timestamp_millis() as f64 / 1000.0)
}

fn json(text: &str, kind: Kind) -> Value {
    let number = match kind {
        Kind::Integer => text.parse::<i64>().ok().map(Number::from),
        Kind::Number => text.parse().ok().and_then(Number::from_f64),
        Kind::Boolean => return Value::Bool(text == "true"),
        _ => None,
    };
    number.map_or_else(|| text.into(), Value::Number)
}

fn cell(text: &str, kind: Kind) -> String {
    // Excel and others compute what begins like this, whoever wrote it.
    let begins = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
    let is_formula = !kind.is_number() && text.starts_with(begins);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.is_empty() || text.contains(['"', ',', '\r', '\n']) || text.trim() != text {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[(&str, &str)], rows: &[&[&str]]) -> Table {
        let column = |(name, kind): &(&str, &str)| Column { name: (*name).to_owned(), kind: Kind::of(kind) };
        let value = |value: &&str| (*value != "NULL").then(|| (*value).to_owned());
        let rows = rows.iter().map(|row| row.iter().map(value).collect()).collect();
        Table { columns: columns.iter().map(column).collect(), rows, is_cut: false }
    }

    #[test]
    fn a_spreadsheet_computes_nothing_and_csv_is_read_as_it_was() {
        let table = table(
            &[("=a", "TEXT"), ("b", "NUMERIC")],
            &[
                &["=HYPERLINK(\"http://x\",\"y\")", "-1.50"],
                &["@x", "NULL"],
                &["", "NaN"],
                &["a,\nb", "0"],
                &["plain", "1"],
            ],
        );
        assert_eq!(
            table.csv(),
            "'=a,b\r\n\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\",-1.50\r\n'@x,\r\n\"\",NaN\r\n\"a,\nb\",0\r\nplain,1\r\n"
        );
    }

    #[test]
    fn values_have_their_types_in_json_and_in_charts() {
        let columns =
            [("n", "INT8"), ("x", "NUMERIC"), ("t", "TIMESTAMPTZ"), ("d", "DATE"), ("b", "BOOL"), ("s", "JSONB")];
        let table = table(
            &columns,
            &[
                &["9007199254740993", "1.25", "1970-01-02 00:00:01.5+00", "1970-01-02", "true", "{}"],
                &["NULL", "NaN", "infinity", "0044-03-15 BC", "false", "NULL"],
            ],
        );
        let json = serde_json::to_value(&table).expect("JSON");
        assert_eq!(
            json["rows"][0],
            serde_json::json!([9_007_199_254_740_993_i64, 1.25, "1970-01-02 00:00:01.5+00", "1970-01-02", true, "{}"])
        );
        assert_eq!(json["rows"][1], serde_json::json!([null, "NaN", "infinity", "0044-03-15 BC", false, null]));
        assert_eq!([1, 2, 3].map(|column| table.number(0, column)), [1.25, 86_401.5, 86_400.0]);
        assert!((0..6).all(|column| table.number(1, column).is_nan()) && table.number(0, 5).is_nan());
    }
}
