//! The statements of one load, as text. Pure; the only place that builds SQL from names.

mod transform;
mod upsert;

pub use transform::{OF_ROWS, Origin, Piece, Place};
pub use upsert::{LEFT_ALONE, Meets, RESET_LEFT_ALONE, Sampled};

use super::{
    Target,
    catalog::{LINEAGE_LOADED_AT, LINEAGE_OBJECT, LINEAGE_ROW, Operators, Table, TableColumn},
};
use crate::config::Mode;
use decode::encode::PgType;
use std::fmt::Write;

/// Name of the column that numbers staged rows.
pub const STAGED_ROW: &str = "penstock_row";
/// Prefix of staged flags that say a JSON row did not have the field; the suffix is the column's place.
pub const ABSENT: &str = "penstock_absent_";

/// Where objects share staging, a row's number is its object's place, and then, in this many bits, its own.
pub const NUMBER_BITS: u32 = 32;

/// Keeps a statement to the staged rows $2 to $3.
pub const RANGE: &str = " WHERE penstock_row BETWEEN $2 AND $3";
/// Lets a statement have all staged rows.
pub const ALL: &str = "";

/// Returns an identifier quoted for SQL.
#[must_use]
pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Returns a text as an SQL literal; `standard_conforming_strings` is on for every session of ours.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns `"schema"."name"`.
#[must_use]
pub fn quote_pair(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}

/// A column of the staging table.
#[derive(Debug, Clone)]
pub struct StagedColumn {
    /// The target column.
    pub target: TableColumn,
    /// An absent flag follows the staged columns.
    pub has_absent_flag: bool,
    /// Some row of the object had the field; columns never seen are left out of the merge.
    pub seen: bool,
}

/// What the statements of one load are made from.
#[derive(Debug)]
pub struct LoadPlan<'a> {
    /// How rows meet the table's.
    pub mode: Mode,
    /// The target.
    pub table: &'a Table,
    /// Staged columns in COPY order.
    pub columns: &'a [StagedColumn],
    /// The staging table's quoted name.
    pub staging: &'a str,
    /// Key columns by their catalog names; empty without a key.
    pub key: &'a [String],
    /// The `newer` column by its catalog name.
    pub newer: Option<&'a str>,
    /// Columns that no update writes, by their catalog names.
    pub keep: &'a [String],
    /// How an upsert meets rows that are there.
    pub meets: Meets,
    /// How many rows are staged, where no two of them have the same key.
    pub n_distinct: Option<u64>,
    /// Rows that stand and came from objects of other keys stay as they are; the row of `penstock.head` of this one.
    pub only_of_head: Option<i64>,
    /// The object's own rows, where a transform made the staged ones of them.
    pub made_of: Option<&'a LoadPlan<'a>>,
}

/// Returns the text of a column that is cast to its type, or, where that would cut it, an error of class 22.
fn whole_text(column: &StagedColumn, name: &str) -> String {
    let Some(cuts) = &column.target.cuts else { return name.to_owned() };
    // What an assignment to varchar(63) says of a text that is longer in any case; not before it is one.
    let refused = format!("pg_catalog.\"varchar\"(({name} || repeat('x', 64))::varchar, 67, false)::text");
    format!("(CASE WHEN {} THEN {refused} ELSE {name} END)", cuts.condition(name))
}

/// Returns the body of `CREATE TEMP TABLE` for the staged columns; equal text means an equal shape. Columns of the
/// `filled` names take no NULL.
#[must_use]
pub fn staging_shape(columns: &[StagedColumn], filled: &[String]) -> String {
    let mut shape = format!("({} bigint", quote(STAGED_ROW));
    for column in columns {
        let travels_as = match column.target.column.pg_type {
            PgType::Cast => "text".to_owned(),
            PgType::Short(_) => column.target.cast_sql.clone(),
            _ => format!("{}{}", column.target.type_sql, column.target.collate_sql),
        };
        let not_null = if filled.contains(&column.target.column.name) { " NOT NULL" } else { "" };
        let _ = write!(shape, ", {} {travels_as}{not_null}", quote(&column.target.column.name));
    }
    for (index, _) in columns.iter().enumerate().filter(|(_, c)| c.has_absent_flag) {
        let _ = write!(shape, ", {} boolean", quote(&format!("{ABSENT}{index}")));
    }
    shape.push(')');
    shape
}

/// Returns `COPY … FROM STDIN` into a staging table.
#[must_use]
pub fn copy_into(staging: &str) -> String {
    format!("COPY {staging} FROM STDIN (FORMAT binary)")
}

impl<'a> LoadPlan<'a> {
    /// Returns the plan of a merge that is told nothing of what it meets.
    #[must_use]
    pub fn plain(target: &'a Target, columns: &'a [StagedColumn], staging: &'a str) -> Self {
        Self {
            mode: target.config.mode,
            table: &target.table,
            columns,
            staging,
            key: &target.key,
            newer: target.newer.as_deref(),
            keep: &target.keep,
            meets: Meets::Plainly,
            n_distinct: None,
            only_of_head: None,
            made_of: None,
        }
    }
}

impl LoadPlan<'_> {
    /// Returns a query for whether any staged key is in the table.
    #[must_use]
    pub fn any_key_is_known(&self) -> String {
        format!("SELECT EXISTS (SELECT FROM ({}) source JOIN {})", self.cast_rows(&self.written()), self.target())
    }

    /// Returns the plain insert of [`ALL`] staged rows or a [`RANGE`] (append, replace). Parameter $1: the object's id.
    #[must_use]
    pub fn insert(&self, range: &str) -> String {
        self.insert_with(range, self.lineage())
    }

    fn insert_with(&self, range: &str, lineage: Vec<(&'static str, String)>) -> String {
        let written = self.written();
        let mut sql = String::new();
        self.insert_from(&format!("({}{range}) source", self.cast_rows(&written)), &written, lineage, &mut sql);
        let order = if self.key.is_empty() { quote(STAGED_ROW) } else { self.key_list("") };
        let _ = write!(sql, " ORDER BY {order}");
        sql
    }

    /// Returns the plain insert of staged rows that are numbered by [`NUMBER_BITS`]. Parameters: the ids of all objects, and
    /// the places of those whose rows are inserted.
    #[must_use]
    pub fn insert_of_objects(&self) -> String {
        let of_places = format!(" WHERE {} >> {NUMBER_BITS} = ANY ($2::bigint[])", quote(STAGED_ROW));
        let object = format!("($1::bigint[])[(source.{} >> {NUMBER_BITS})::integer + 1]", quote(STAGED_ROW));
        let row = format!("source.{} & {}", quote(STAGED_ROW), (1u64 << NUMBER_BITS) - 1);
        let lineage = self.lineage().into_iter().map(|(name, value)| match name {
            LINEAGE_OBJECT => (name, object.clone()),
            LINEAGE_ROW => (name, row.clone()),
            _ => (name, value),
        });
        self.insert_with(&of_places, lineage.collect())
    }

    /// Returns a staged row (alias `staged`) as the jsonb object its reject keeps: what the merge would write, by column.
    ///
    /// A field that the row did not have is left out, so that the column's default applies when the row is read again.
    #[must_use]
    pub fn kept_row(&self) -> String {
        let mut sql = format!("to_jsonb(staged) - {}", literal(STAGED_ROW));
        for (place, column) in self.columns.iter().enumerate() {
            let name = literal(&column.target.column.name);
            let flag = format!("{ABSENT}{place}");
            match (column.seen, column.has_absent_flag) {
                (false, _) => {
                    let _ = write!(sql, " - {name}");
                }
                (true, true) => {
                    let _ = write!(sql, " - CASE WHEN staged.{} THEN {name} ELSE '' END", quote(&flag));
                }
                (true, false) => {}
            }
            if column.has_absent_flag {
                let _ = write!(sql, " - {}", literal(&flag));
            }
        }
        sql
    }

    /// Columns the statement writes.
    fn written(&self) -> Vec<&StagedColumn> {
        self.columns.iter().filter(|c| c.seen).collect()
    }

    fn key_join(&self) -> String {
        let pair = |k: &String| format!("target.{0} {1} source.{0}", quote(k), self.operators(k).equal);
        self.key.iter().map(pair).collect::<Vec<_>>().join(" AND ")
    }

    /// Returns the table, called `target`, joined by its key to what is called `source`.
    fn target(&self) -> String {
        format!("{} target ON {}", self.table.qualified, self.key_join())
    }

    /// Returns the operators of a column.
    fn operators(&self, column: &str) -> Operators {
        let found = self.table.columns.iter().find(|c| c.column.name == column);
        found.map_or_else(Operators::default, |column| column.operators.clone())
    }

    fn key_list(&self, prefix: &str) -> String {
        self.key.iter().map(|k| format!("{prefix}{}", quote(k))).collect::<Vec<_>>().join(", ")
    }

    /// Lineage columns the table has and the expression that fills each.
    fn lineage(&self) -> Vec<(&'static str, String)> {
        let mut columns = Vec::new();
        if self.table.lineage_object {
            columns.push((LINEAGE_OBJECT, "$1::bigint".to_owned()));
        }
        if self.table.lineage_row {
            columns.push((LINEAGE_ROW, format!("source.{}", quote(STAGED_ROW))));
        }
        if self.table.lineage_loaded_at {
            columns.push((LINEAGE_LOADED_AT, "now()".to_owned()));
        }
        columns
    }

    /// Returns a SELECT of the staged rows with every value in a type that is assigned to its column's as an INSERT does.
    fn cast_rows(&self, written: &[&StagedColumn]) -> String {
        format!("SELECT {} FROM {}", self.cast_values(written), self.staging)
    }

    /// Returns the list of such a SELECT, with the row's number.
    fn cast_values(&self, written: &[&StagedColumn]) -> String {
        quote(STAGED_ROW) + &self.cast_columns(written)
    }

    /// Returns the same without the row's number, each value behind a comma.
    fn cast_columns(&self, written: &[&StagedColumn]) -> String {
        let mut sql = String::new();
        for column in written {
            let name = quote(&column.target.column.name);
            let mut value = match column.target.column.pg_type {
                PgType::Cast => column.target.read_from(&whole_text(column, &name)),
                _ if column.target.as_declared => column.target.read_from(&name),
                _ => name.clone(),
            };
            if let (true, Some(default)) = (column.has_absent_flag, &column.target.default_sql) {
                let place = self.columns.iter().position(|c| std::ptr::eq(c, *column)).unwrap_or(0);
                let flag = quote(&format!("{ABSENT}{place}"));
                value = format!("CASE WHEN {flag} THEN {default} ELSE {value} END");
            }
            let _ = write!(sql, ", {value} AS {name}");
        }
        sql
    }

    fn insert_from(
        &self,
        source: &str,
        written: &[&StagedColumn],
        lineage: Vec<(&'static str, String)>,
        sql: &mut String,
    ) {
        let names: Vec<String> = written
            .iter()
            .map(|c| quote(&c.target.column.name))
            .chain(lineage.iter().map(|(name, _)| quote(name)))
            .collect();
        let values: Vec<String> = written
            .iter()
            .map(|c| format!("source.{}", quote(&c.target.column.name)))
            .chain(lineage.into_iter().map(|(_, value)| value))
            .collect();
        let overriding = if written.iter().any(|c| c.target.identity_always) { " OVERRIDING SYSTEM VALUE" } else { "" };
        let _ = write!(
            sql,
            "INSERT INTO {} AS target ({}){overriding} SELECT {} FROM {source}",
            self.table.qualified,
            names.join(", "),
            values.join(", "),
        );
    }
}
