//! The table and the dataset that a sample suggests.

use super::{
    evidence::{Evidence, Guess, ONLY_NULL},
    identifiers::column_for,
    location::{Location, identifier},
    sample::{FieldSeen, Sample},
    shape::Shapes,
    types::of_declared,
};
use chrono::DateTime;
use decode::{Declared, Notation, ReadOptions, encode::PgType};
use std::collections::{BTreeMap, BTreeSet};

/// Names of columns that say when a row was last changed, the clearest first.
const NEWER: [&str; 12] = [
    "updated_at",
    "modified_at",
    "changed_at",
    "last_updated_at",
    "last_modified_at",
    "last_updated",
    "last_modified",
    "update_time",
    "modification_time",
    "updated",
    "modified",
    "updated_on",
];
/// How dates with dots are written.
const DOTTED: &str = "%d.%m.%Y";
/// Other columns that could be the key; more would not help to choose.
const MAX_KEY_IDEAS: usize = 3;

/// A proposed column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The file's field, or what the path has of this name.
    pub field: String,
    /// Name in the table.
    pub name: String,
    /// Type that loses nothing.
    pub sql_type: PgType,
    /// The texts that must mean NULL for it to have that type.
    pub null_texts: BTreeSet<&'static str>,
    /// How the values are written, where the type does not say.
    pub written: Shapes,
    /// The format of its dates, where the type does not read them by itself.
    pub format: Option<&'static str>,
    /// Texts among [`super::evidence::NULL_TEXTS`] that were seen in it, as values if it is text.
    pub seen_null_texts: BTreeSet<&'static str>,
    /// Whether a value was refused by the type that was proposed first.
    pub is_widened: bool,
    /// For people.
    pub notes: Vec<String>,
}

/// A table and a dataset to start from.
#[derive(Debug, Clone)]
pub struct Description {
    /// Where the sample came from, and where its like is.
    pub location: Location,
    /// How it is read.
    pub read: ReadOptions,
    /// The columns, in the file's order, then those of the path.
    pub columns: Vec<Column>,
    /// The format, where the dataset has to say it.
    pub format: Option<&'static str>,
    /// Field → column where the names differ.
    pub rename: BTreeMap<String, String>,
    /// Column → how its values are written.
    pub types: BTreeMap<String, Notation>,
    /// The key's columns; none where none was found.
    pub key: Vec<String>,
    /// Other columns without a NULL or a value twice, by themselves or together.
    pub key_ideas: Vec<Vec<String>>,
    /// The columns that every row has a value for.
    pub complete: Vec<String>,
    /// A column that says which of two rows is newer, and whether it is never NULL.
    pub newer: Option<(String, bool)>,
    /// The column for fields that are not among the others.
    pub extras: Option<String>,
    /// Rows looked at.
    pub n_rows: u64,
    /// Whether these were all.
    pub is_whole: bool,
    /// Whether the file is CSV.
    pub is_csv: bool,
    /// Rows of a CSV file that end early.
    pub n_short: u64,
    /// Whether it has a record that no rows can be told apart after.
    pub is_broken: bool,
    /// Rows that still cannot be loaded.
    pub n_rejected: u64,
    /// The first of them.
    pub first_reject: Option<String>,
    /// For people: what to look at before this is used.
    pub remarks: Vec<String>,
}

impl Description {
    /// Returns what a sample suggests.
    #[must_use]
    pub fn new(sample: Sample, location: Location, read: ReadOptions) -> Self {
        let mut read = read;
        let mut columns: Vec<Column> = Vec::new();
        let has_comma = |field: &FieldSeen| field.evidence.guess().written == Shapes::DECIMAL_COMMA;
        read.csv.decimal_comma = sample.fields.iter().any(has_comma)
            && sample.fields.iter().all(|field| field.evidence.takes_decimal_comma());
        for field in &sample.fields {
            let name = column_for(&field.name, |name| columns.iter().any(|column| column.name == name));
            columns.push(match &field.declared {
                Some(declared) => Column::new(&field.name, name, declared_guess(declared), BTreeSet::new()),
                None => Column::new(&field.name, name, field.evidence.guess(), field.evidence.null_texts.clone()),
            });
        }
        for column in columns.iter_mut().filter(|column| column.written == Shapes::DECIMAL_COMMA) {
            if !read.csv.decimal_comma {
                column.sql_type = PgType::Text(None);
                column.null_texts.clear();
                column.notes = vec!["numbers with a decimal comma, and others have a point".into()];
            }
        }
        for (name, value) in &location.captures {
            take_from_path(name, value.as_deref(), &mut columns);
        }
        let logged = read.text.preset.map_or(&[][..], |preset| preset.notations());
        let logged: BTreeMap<&str, &str> = logged.iter().copied().collect();
        for column in columns.iter_mut().filter(|column| logged.contains_key(column.field.as_str())) {
            column.sql_type = PgType::TimestampTz;
        }
        let logged: Vec<(String, Notation)> = columns
            .iter()
            .filter_map(|column| Some((column.name.clone(), logged.get(column.field.as_str())?.parse().ok()?)))
            .collect();
        let captured = |name: &str| location.captures.iter().any(|(captured, _)| captured == name);
        let own = columns.iter_mut().zip(&sample.fields).filter(|(_, field)| !captured(&field.name));
        let epochs = own.filter_map(|(column, field)| as_epoch(column, field));
        let epochs: Vec<(String, Notation)> = epochs.collect();
        let format = |column: &Column| column.format.or((column.written == Shapes::DOTTED_DATE).then_some(DOTTED));
        let dates = columns.iter().filter_map(|column| Some((column.name.clone(), format(column)?.parse().ok()?)));
        let types = dates.chain(logged).chain(epochs).collect();
        let rename = columns.iter().filter(|column| column.field != column.name && !sample.is_positional);
        let mut rename: BTreeMap<String, String> =
            rename.map(|column| (column.field.clone(), column.name.clone())).collect();
        if sample.is_open {
            // A renamed field that begins so would be taken for a path.
            for (field, column) in rename.extract_if(.., |field, _| field.starts_with('/')) {
                let pointer = format!("/{}", field.replace('~', "~0").replace('/', "~1"));
                read.json.fields.extend(pointer.parse().ok().map(|pointer| (column, pointer)));
            }
        }
        // An object of all fields has none of those that cannot be told apart.
        let has_names = !sample.is_positional && sample.ambiguous.is_empty();
        let needs_extras = (sample.is_open || sample.too_many_fields) && has_names;
        let extras = needs_extras.then(|| column_for("extra", |name| columns.iter().any(|column| column.name == name)));

        // What stands for NULL somewhere is not a value anywhere.
        let nulls: BTreeSet<&str> = columns.iter().flat_map(|column| column.null_texts.iter().copied()).collect();
        let unique: Vec<&Column> = sample
            .fields
            .iter()
            .zip(&columns)
            .filter(|(field, column)| {
                !captured(&field.name)
                    && may_be_key(&column.sql_type)
                    && field.evidence.is_unique(sample.n_rows)
                    && column.seen_null_texts.is_disjoint(&nulls)
            })
            .map(|(_, column)| column)
            .collect();
        let ranked = unique.iter().filter_map(|column| Some((key_rank(&column.name, &location.name)?, *column)));
        let key: Vec<String> =
            ranked.min_by_key(|(rank, _)| *rank).map(|(_, column)| column.name.clone()).into_iter().collect();
        // Measurements are often all different.
        let others = unique.iter().filter(|column| column.sql_type != PgType::Numeric(None));
        let others = others.map(|column| &column.name).filter(|name| !key.contains(name));
        let key_ideas = others.take(MAX_KEY_IDEAS).map(|name| vec![name.clone()]).collect();
        let complete = sample.fields.iter().zip(&columns).filter(|(field, column)| {
            !captured(&field.name) && field.evidence.is_complete(sample.n_rows) && column.seen_null_texts.is_empty()
        });
        let complete = complete.map(|(_, column)| column.name.clone()).collect();
        let newer = newer(&sample, &columns);
        let mut remarks = Vec::new();
        if !sample.ambiguous.is_empty() {
            let names: Vec<String> = sample.ambiguous.iter().map(|name| format!("\"{name}\"")).collect();
            let names = names.join(", ");
            remarks.push(format!(
                "several fields have the name {names}; they cannot be told apart, so no column takes them"
            ));
        }
        if let Some(problem) = &sample.broken {
            remarks.push(format!(
                "the file does not load as it is: {problem}; a quote within a quoted field is to be doubled"
            ));
        }
        Self {
            location,
            read,
            columns,
            format: None,
            rename,
            types,
            key,
            key_ideas,
            complete,
            newer,
            extras,
            n_rows: sample.n_rows,
            is_whole: sample.is_whole,
            is_csv: sample.is_csv,
            n_short: sample.n_short,
            is_broken: sample.broken.is_some(),
            n_rejected: sample.n_rejected,
            first_reject: sample.first_reject,
            remarks,
        }
    }

    /// Returns the texts that must mean NULL for the columns to have their types.
    #[must_use]
    pub fn null_texts(&self) -> BTreeSet<&'static str> {
        self.columns.iter().flat_map(|column| column.null_texts.iter().copied()).collect()
    }

    /// Returns the text columns in which such a text stands.
    #[must_use]
    pub fn texts_lost_to_null(&self) -> Vec<(&'static str, &str)> {
        let nulls = self.null_texts();
        let texts = self.columns.iter().filter(|column| column.sql_type == PgType::Text(None));
        let lost = texts
            .flat_map(|column| column.seen_null_texts.intersection(&nulls).map(|text| (*text, column.name.as_str())));
        lost.collect()
    }
}

/// Returns the type that a file's schema declares.
fn declared_guess(declared: &Declared) -> Guess {
    let note = match declared {
        Declared::Time { nanos: true } | Declared::Timestamp { nanos: true, .. } => {
            Some("nanoseconds in the file; Postgres has microseconds")
        }
        Declared::Int96 => {
            Some("INT96, which names no zone; what Spark writes are instants, for which timestamptz does as well")
        }
        Declared::Bytes => Some("bytes that the file does not call text; text would do if they are UTF-8"),
        Declared::Mixed => Some("values of several types; text holds each as it is written"),
        Declared::Null => Some(ONLY_NULL),
        _ => None,
    };
    Guess::of(of_declared(declared), note)
}

impl Column {
    fn new(field: &str, name: String, guess: Guess, seen_null_texts: BTreeSet<&'static str>) -> Self {
        Self {
            field: field.to_owned(),
            name,
            sql_type: guess.sql_type,
            null_texts: guess.null_texts,
            written: guess.written,
            format: guess.format,
            seen_null_texts,
            is_widened: false,
            notes: guess.note.map(str::to_owned).into_iter().collect(),
        }
    }
}

/// Adds a column for what the path says, which stands before a field of that name.
fn take_from_path(name: &str, value: Option<&str>, columns: &mut Vec<Column>) {
    let mut evidence = Evidence::default();
    if let Some(value) = value {
        evidence.add_text(value);
    }
    let found = columns.iter().position(|column| column.field == name);
    let column_name = match found {
        Some(place) => columns[place].name.clone(),
        None => column_for(name, |name| columns.iter().any(|column| column.name == name)),
    };
    let mut guess = Guess { null_texts: BTreeSet::new(), note: Some("from the path"), ..evidence.guess() };
    if guess.written == Shapes::DECIMAL_COMMA || guess.format.is_some() {
        // The dialect is not that of the path.
        guess = Guess::of(PgType::Text(None), guess.note);
    }
    let column = Column::new(name, column_name, guess, BTreeSet::new());
    match found {
        Some(place) => columns[place] = column,
        None => columns.push(column),
    }
}

/// Takes a column of integers for a count of time since 1970, where its name and all its values say so.
fn as_epoch(column: &mut Column, field: &FieldSeen) -> Option<(String, Notation)> {
    const UNITS: [(&str, &str, i64); 4] = [
        ("epoch_s", "seconds", 1),
        ("epoch_ms", "milliseconds", 1_000),
        ("epoch_us", "microseconds", 1_000_000),
        ("epoch_ns", "nanoseconds", 1_000_000_000),
    ];
    // From 1990 to 2100: counts in other units are far away from that.
    const SECONDS: std::ops::Range<i64> = 631_152_000..4_102_444_800;
    let is_integer = matches!(column.sql_type, PgType::Int4 | PgType::Int8) && column.field == field.name;
    let (least, greatest) = field.evidence.integers().filter(|_| is_integer && says_time(&column.name))?;
    let fits = |per_second: i64| SECONDS.contains(&(least / per_second)) && SECONDS.contains(&(greatest / per_second));
    let (notation, unit, per_second) = UNITS.into_iter().find(|(_, _, per_second)| fits(*per_second))?;
    let day = |count: i64| DateTime::from_timestamp(count / per_second, 0).map(|at| at.date_naive().to_string());
    let (first, last) = (day(least)?, day(greatest)?);
    column.sql_type = PgType::TimestampTz;
    column.notes.push(format!("{unit} since 1970, to go by its name and values, which are {first} to {last}"));
    Some((column.name.clone(), notation.parse().ok()?))
}

/// Returns whether a name is that of a moment.
fn says_time(column: &str) -> bool {
    let name = snake_case(column);
    let is_named = ["ts", "time", "timestamp", "date", "datetime", "epoch", "created", "updated", "modified", "at"];
    let ends = ["_ts", "_at", "_time", "_timestamp", "_date", "_datetime", "_epoch", "_ms", "_on"];
    is_named.contains(&name.as_str()) || ends.iter().any(|end| name.ends_with(end))
}

/// Returns whether values of a type identify rows, rather than happen to be different.
pub(super) fn may_be_key(sql_type: &PgType) -> bool {
    matches!(
        sql_type,
        PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Numeric(_) | PgType::Uuid | PgType::Text(None)
    )
}

/// Returns how much a name sounds like that of a key, smaller being more; None when not at all.
pub(super) fn key_rank(column: &str, table: &str) -> Option<u8> {
    let name = identifier(column);
    let singular = table.strip_suffix('s').unwrap_or(table);
    let of_table = [format!("{table}_id"), format!("{singular}_id"), format!("{table}id"), format!("{singular}id")];
    let camel = column.len() > 2 && (column.ends_with("Id") || column.ends_with("ID"));
    match name.as_str() {
        "id" | "uuid" | "guid" | "key" => Some(0),
        name if of_table.iter().any(|of_table| of_table == name) => Some(1),
        name if ["_id", "_uuid", "_guid", "_uid", "_key", "_pk"].iter().any(|end| name.ends_with(end)) || camel => {
            Some(2)
        }
        _ => None,
    }
}

fn newer(sample: &Sample, columns: &[Column]) -> Option<(String, bool)> {
    let fields = sample.fields.iter().zip(columns);
    let times = fields.filter(|(_, column)| matches!(column.sql_type, PgType::Timestamp | PgType::TimestampTz));
    let ranked = times.filter_map(|(field, column)| {
        let name = snake_case(&column.name);
        let rank = NEWER.iter().position(|newer| *newer == name)?;
        Some((rank, column.name.clone(), field.evidence.is_complete(sample.n_rows)))
    });
    ranked.min_by_key(|(rank, ..)| *rank).map(|(_, name, is_complete)| (name, is_complete))
}

/// Returns `updatedAt` as `updated_at`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (at, c) in name.char_indices() {
        if c.is_ascii_uppercase() && at > 0 && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_key_is_known_by_its_end() {
        for (column, rank) in [
            ("id", Some(0)),
            ("ID", Some(0)),
            ("_id", Some(0)),
            ("order_id", Some(1)),
            ("orderId", Some(1)),
            ("userId", Some(2)),
            ("customer_id", Some(2)),
            ("event_uuid", Some(2)),
            ("paid", None),
            ("name", None),
        ] {
            assert_eq!(key_rank(column, "orders"), rank, "{column}");
        }
    }

    #[test]
    fn camel_case_is_read_as_words() {
        assert_eq!(snake_case("updatedAt"), "updated_at");
        assert_eq!(snake_case("Last_Modified"), "last_modified");
    }
}
