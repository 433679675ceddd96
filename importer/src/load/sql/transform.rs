//! The statement of a transform: fragments of a configuration, composed so that each row it makes is of one row it takes.

use super::{ABSENT, LoadPlan, NUMBER_BITS, STAGED_ROW, StagedColumn, literal, quote};
use crate::{
    config::fragment::INPUT,
    load::{catalog::Table, transform::Transform},
};
use std::fmt::Write;

/// Keeps a transform to the rows $1 to $2, of which a planner that does not know them expects next to none: it takes each
/// comparison of what is computed for rare, and of a range alone for a two-hundredth of all.
pub const OF_ROWS: &str =
    " WHERE penstock_row BETWEEN $1 AND $2 AND (penstock_row >= $1)::integer = 1 AND (penstock_row <= $2)::integer = 1";

/// Where an object lies, for the fields of `input` that say so.
#[derive(Debug)]
pub struct Place<'a> {
    /// Bucket.
    pub bucket: &'a str,
    /// Key.
    pub key: &'a str,
    /// Last-Modified, as Postgres reads it.
    pub last_modified: Option<String>,
}

/// Whose rows go through SQL.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// Those of one object.
    Object(&'a Place<'a>),
    /// Those of several, numbered by [`NUMBER_BITS`].
    Objects(&'a [Place<'a>]),
}

/// The column of `input` that has a row's number among those of all objects.
const GROUP_ROW: &str = "penstock_group_row";

impl Origin<'_> {
    /// Returns a text of each object's place, for the row in hand.
    fn constant(&self, text: impl for<'p> Fn(&'p Place<'p>) -> Option<&'p str>, type_sql: &str) -> String {
        let literal = |place: &Place<'_>| text(place).map_or_else(|| "NULL".to_owned(), literal);
        match self {
            Self::Object(place) => format!("{}::{type_sql}", literal(place)),
            Self::Objects(places) => {
                let texts: Vec<String> = places.iter().map(literal).collect();
                let row = quote(STAGED_ROW);
                format!("(ARRAY[{}]::{type_sql}[])[({row} >> {NUMBER_BITS})::integer + 1]", texts.join(", "))
            }
        }
    }
}

/// One fragment, in statements that Postgres can look at without a row.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// The setting it is, for people.
    pub name: String,
    /// The column that it fills.
    pub column: Option<String>,
    /// A query that has it.
    pub select: String,
    /// An INSERT of it into its column.
    pub assigns: Option<String>,
    /// The session's own role asks so, too, whoever the transform runs as.
    pub is_asked_anew: bool,
}

impl Transform {
    /// Returns its fragments, those that others stand on first.
    #[must_use]
    pub fn pieces(&self, table: &Table) -> Vec<Piece> {
        let from = self.rowless_from();
        let mut pieces = Vec::new();
        let mut add = |name: &str, column: Option<String>, select: String, assigns| {
            pieces.push(Piece { name: name.to_owned(), column, select, assigns, is_asked_anew: false });
        };
        if self.join.is_some() {
            add("join", None, format!("SELECT 1 AS one FROM {from}"), None);
        }
        if let Some(condition) = &self.condition {
            add("where", None, format!("SELECT 1 AS one FROM {from} WHERE (\n{condition}\n)"), None);
        }
        for (column, sql) in &self.set {
            let Some(of) = table.column(column) else { continue };
            let select = format!("SELECT (\n{sql}\n)::{} AS value FROM {from}", of.type_sql);
            let (table, name) = (&table.qualified, quote(column));
            let assigns =
                format!("INSERT INTO {table} ({name}) OVERRIDING SYSTEM VALUE SELECT (\n{sql}\n) FROM {from}");
            add(&format!("set, column {column}"), Some(column.clone()), select, Some(assigns));
        }
        for awaited in &self.awaits {
            let field = &awaited.config.field;
            let missing = awaited.is_missing(&format!("{INPUT}.{}", quote(field)));
            let (input, name) = (self.rowless_input(), format!("awaits, field {field}"));
            let select = format!("SELECT DISTINCT {INPUT}.{} FROM {input} WHERE {missing}", quote(field));
            pieces.push(Piece { name, column: None, select, assigns: None, is_asked_anew: true });
        }
        pieces
    }

    /// Returns a query of all it makes, of no rows.
    #[must_use]
    pub fn select(&self, table: &Table) -> String {
        let values = self.set.iter().filter_map(|(column, sql)| {
            let of = table.column(column)?;
            Some(format!(", (\n{sql}\n)::{}", of.type_sql))
        });
        let mut sql = format!("SELECT 1{} FROM {}", values.collect::<String>(), self.rowless_from());
        if let Some(condition) = &self.condition {
            let _ = write!(sql, " WHERE (\n{condition}\n)");
        }
        sql
    }

    /// Returns what stands behind FROM where `input` has no values, only types.
    fn rowless_from(&self) -> String {
        let input = self.rowless_input();
        match &self.join {
            Some(join) => format!("({input}\n{join}\n)"),
            None => input,
        }
    }

    /// With OFFSET, so that no plan knows its values and leaves out what needs a right.
    fn rowless_input(&self) -> String {
        let mut sql = format!("(SELECT NULL::bigint AS {}", quote(STAGED_ROW));
        for column in &self.columns {
            let _ = write!(sql, ", NULL::{}{} AS {}", column.cast_sql, column.collate_sql, quote(&column.column.name));
        }
        let _ = write!(
            sql,
            ", NULL::text AS penstock_key, NULL::text AS penstock_bucket, \
             NULL::timestamptz AS penstock_last_modified OFFSET 0) AS {INPUT}"
        );
        sql
    }
}

impl LoadPlan<'_> {
    /// Returns the INSERT of what `transform` makes of this plan's staged rows, all or a range, into `made`.
    ///
    /// Fragments stand on lines of their own, expressions in parentheses, and the joins in those of FROM, where nothing
    /// but joins may stand.
    #[must_use]
    pub fn transform(&self, transform: &Transform, origin: &Origin<'_>, made: &LoadPlan<'_>, range: &str) -> String {
        let mut names = quote(STAGED_ROW);
        let number = match origin {
            Origin::Object(_) => STAGED_ROW,
            Origin::Objects(_) => GROUP_ROW,
        };
        let mut values = format!("{INPUT}.{}", quote(number));
        for column in made.columns {
            let name = quote(&column.target.column.name);
            let _ = write!(names, ", {name}");
            match transform.set.get(&column.target.column.name) {
                Some(sql) => {
                    let _ = write!(values, ", (\n{sql}\n)");
                }
                None => {
                    let _ = write!(values, ", {INPUT}.{name}");
                }
            }
        }
        for (index, column) in made.columns.iter().enumerate().filter(|(_, column)| column.has_absent_flag) {
            let of = self.columns.iter().position(|other| other.target.column.name == column.target.column.name);
            let _ = write!(names, ", {}", quote(&format!("{ABSENT}{index}")));
            let _ = write!(values, ", {INPUT}.{}", quote(&format!("{ABSENT}{}", of.unwrap_or(index))));
        }
        let rows = format!("({}) AS {INPUT}", self.input_rows(transform, origin, range));
        let rows = match &transform.join {
            Some(join) => format!("({rows}\n{join}\n)"),
            None => rows,
        };
        let mut sql = format!("INSERT INTO {} ({names}) SELECT {values} FROM {rows}", made.staging);
        if let Some(condition) = &transform.condition {
            let _ = write!(sql, " WHERE (\n{condition}\n)");
        }
        sql
    }

    /// Returns the SELECT of the rows that fragments call `input`: staged values, and NULL for fields that no row has.
    #[must_use]
    pub fn input_rows(&self, transform: &Transform, origin: &Origin<'_>, range: &str) -> String {
        let staged: Vec<&StagedColumn> = self.columns.iter().collect();
        let row = quote(STAGED_ROW);
        let number = match origin {
            Origin::Object(_) => row,
            Origin::Objects(_) => {
                format!("{row} & {} AS {row}, {row} AS {}", (1u64 << NUMBER_BITS) - 1, quote(GROUP_ROW))
            }
        };
        let mut sql = format!("SELECT {number}{}", self.cast_columns(&staged));
        for (index, _) in self.columns.iter().enumerate().filter(|(_, column)| column.has_absent_flag) {
            let _ = write!(sql, ", {}", quote(&format!("{ABSENT}{index}")));
        }
        let is_staged = |name: &String| staged.iter().any(|column| column.target.column.name == *name);
        for column in transform.columns.iter().filter(|column| !is_staged(&column.column.name)) {
            let _ = write!(sql, ", {} AS {}", column.read_from("NULL"), quote(&column.column.name));
        }
        let _ = write!(
            sql,
            ", {} AS penstock_key, {} AS penstock_bucket, {} AS penstock_last_modified FROM {}{range}",
            origin.constant(|place| Some(place.key), "text"),
            origin.constant(|place| Some(place.bucket), "text"),
            origin.constant(|place| place.last_modified.as_deref(), "timestamptz"),
            self.staging,
        );
        sql
    }
}
