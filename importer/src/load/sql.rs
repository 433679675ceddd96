//! The statements of one load, as text. Pure; the only place that builds SQL from names.

use super::catalog::{LINEAGE_LOADED_AT, LINEAGE_OBJECT, LINEAGE_ROW, Table, TableColumn};
use crate::encode::PgType;
use std::fmt::Write;

/// Name of the column that numbers staged rows.
pub const STAGED_ROW: &str = "penstock_row";
/// Prefix of staged flags that say a JSON row did not have the field; the suffix is the column's place.
const ABSENT: &str = "penstock_absent_";

/// Keeps a statement to a range of staged rows.
const RANGE: &str = " WHERE penstock_row BETWEEN $2 AND $3";

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
    /// Rows the table has already are left out of an upsert before it meets them.
    pub skips_equal: bool,
}

/// Returns the body of `CREATE TEMP TABLE` for the staged columns; equal text means an equal shape.
#[must_use]
pub fn staging_shape(columns: &[StagedColumn]) -> String {
    let mut shape = format!("({} bigint", quote(STAGED_ROW));
    for column in columns {
        let travels_as = if column.target.column.pg_type == PgType::Cast {
            "text".to_owned()
        } else {
            format!("{}{}", column.target.type_sql, column.target.collate_sql)
        };
        let _ = write!(shape, ", {} {travels_as}", quote(&column.target.column.name));
    }
    for (index, _) in columns.iter().enumerate().filter(|(_, c)| c.has_absent_flag) {
        let _ = write!(shape, ", {} boolean", quote(&format!("{ABSENT}{index}")));
    }
    shape.push(')');
    shape
}

impl LoadPlan<'_> {
    /// Returns `COPY … FROM STDIN` into the staging table.
    #[must_use]
    pub fn copy(&self) -> String {
        format!("COPY {} FROM STDIN (FORMAT binary)", self.staging)
    }

    /// Returns the upsert. Parameter $1: the object's id. Yields one row: distinct keys staged, and how many of
    /// their rows were inserted or updated.
    ///
    /// The source is deduplicated by the key's own equality (`DISTINCT ON`), so numeric 1.0 and 1.00,
    /// citext and nondeterministic collations count as Postgres counts them, and it comes out in key
    /// order, which is the order the rows are locked in.
    ///
    /// ON CONFLICT locks every row it meets, which is a write. With [`Self::skips_equal`] rows that would not change
    /// are left out by a look first: less than half the time where nothing changed, a tenth more where everything
    /// did. They stay unlocked, so an import that changes one of them meanwhile counts as the later one.
    #[must_use]
    pub fn upsert(&self) -> String {
        self.upsert_rows("")
    }

    /// Returns [`Self::upsert`] of the staged rows $2 to $3 only.
    #[must_use]
    pub fn upsert_range(&self) -> String {
        self.upsert_rows(RANGE)
    }

    fn upsert_rows(&self, range: &str) -> String {
        let written = self.written();
        let key = self.key_list("");
        let newer = self.newer.filter(|_| !self.newer_is_absent());
        let newest = newer.map(|n| format!(", {} DESC NULLS LAST", quote(n))).unwrap_or_default();
        let mut sql = format!(
            "WITH source AS MATERIALIZED (SELECT DISTINCT ON ({key}) * FROM ({}{range}) staged \
             ORDER BY {key}{newest}, {row} DESC), ",
            self.cast_rows(&written),
            row = quote(STAGED_ROW),
        );
        let updated: Vec<&&StagedColumn> =
            written.iter().filter(|c| !self.key.contains(&c.target.column.name) && !c.target.identity_always).collect();
        let skips = self.skips_equal && !updated.is_empty();
        if skips {
            let _ = write!(
                sql,
                "changed AS (SELECT source.* FROM source LEFT JOIN {} target ON {} WHERE target.ctid IS NULL OR {}), ",
                self.table.qualified,
                self.key_join(),
                self.changes(&updated, newer, "source"),
            );
        }
        sql.push_str("merged AS (");
        self.insert_from(if skips { "changed source" } else { "source" }, &written, &mut sql);
        let _ = write!(sql, " ON CONFLICT ({key}) DO ");
        if updated.is_empty() {
            sql.push_str("NOTHING");
        } else {
            let lineage = self.lineage().into_iter().map(|(name, _)| name);
            let set: Vec<String> = updated
                .iter()
                .map(|column| column.target.column.name.as_str())
                .chain(lineage)
                .map(|name| format!("{0} = excluded.{0}", quote(name)))
                .collect();
            let _ = write!(sql, "UPDATE SET {} WHERE {}", set.join(", "), self.changes(&updated, newer, "excluded"));
        }
        sql.push_str(" RETURNING 1) SELECT count(*), (SELECT count(*) FROM merged) FROM source");
        sql
    }

    /// Returns the condition under which the row `target` gives way to the row called `by`.
    fn changes(&self, updated: &[&&StagedColumn], newer: Option<&str>, by: &str) -> String {
        let differs: Vec<String> = updated
            .iter()
            .map(|c| {
                let name = quote(&c.target.column.name);
                let text = if c.target.comparable { "" } else { "::text" };
                format!("target.{name}{text} IS DISTINCT FROM {by}.{name}{text}")
            })
            .collect();
        let differs = differs.join(" OR ");
        // A file that does not say how new its rows are counts as NULL, which is older than anything.
        match (self.newer.map(quote), newer) {
            (Some(column), Some(_)) => {
                format!("(({differs}) AND (target.{column} IS NULL OR {by}.{column} >= target.{column}))")
            }
            (Some(column), None) => format!("(({differs}) AND target.{column} IS NULL)"),
            (None, _) => format!("({differs})"),
        }
    }

    /// Returns whether the dataset has a `newer` column that the file does not say anything about.
    #[must_use]
    pub fn newer_is_absent(&self) -> bool {
        self.newer.is_some_and(|newer| !self.written().iter().any(|c| c.target.column.name == newer))
    }

    /// Returns the count of staged keys that gave way to a newer row already there; run after [`Self::upsert`],
    /// but before it when [`Self::newer_is_absent`], for a row inserted with the column's default has not given way.
    ///
    /// Exact after it because ON CONFLICT DO UPDATE locks every row it meets, also those its WHERE leaves alone.
    #[must_use]
    pub fn count_gave_way(&self) -> Option<String> {
        let newer = quote(self.newer?);
        let written = self.written();
        let key = self.key_list("");
        if self.newer_is_absent() {
            return Some(format!(
                "SELECT count(*) FROM (SELECT DISTINCT {key} FROM ({}) staged) source \
                 JOIN {} target ON {} WHERE target.{newer} IS NOT NULL",
                self.cast_rows(&written),
                self.table.qualified,
                self.key_join(),
            ));
        }
        Some(format!(
            "SELECT count(*) FROM (SELECT {key}, max({newer}) AS newest FROM ({}) staged GROUP BY {key}) source \
             JOIN {} target ON {} WHERE target.{newer} IS NOT NULL AND (source.newest IS NULL OR source.newest < target.{newer})",
            self.cast_rows(&written),
            self.table.qualified,
            self.key_join(),
        ))
    }

    /// Returns the removal of staged rows that give way to a row already there; for where [`Self::newer_is_absent`].
    #[must_use]
    pub fn drop_given_way(&self) -> Option<String> {
        let newer = quote(self.newer?);
        Some(format!(
            "DELETE FROM {} WHERE penstock_row IN (SELECT source.penstock_row FROM ({}) source JOIN {} target ON {} \
             WHERE target.{newer} IS NOT NULL)",
            self.staging,
            self.cast_rows(&self.written()),
            self.table.qualified,
            self.key_join(),
        ))
    }

    /// Returns a query for whether any staged key is in the table.
    #[must_use]
    pub fn any_key_is_known(&self) -> String {
        let written = self.written();
        format!(
            "SELECT EXISTS (SELECT FROM ({}) source JOIN {} target ON {})",
            self.cast_rows(&written),
            self.table.qualified,
            self.key_join(),
        )
    }

    /// Returns the plain insert of every staged row (append, replace). Parameter $1: the object's id.
    #[must_use]
    pub fn insert(&self) -> String {
        self.insert_rows("")
    }

    /// Returns [`Self::insert`] of the staged rows $2 to $3 only.
    #[must_use]
    pub fn insert_range(&self) -> String {
        self.insert_rows(RANGE)
    }

    fn insert_rows(&self, range: &str) -> String {
        let written = self.written();
        let mut sql = String::new();
        self.insert_from(&format!("({}{range}) source", self.cast_rows(&written)), &written, &mut sql);
        let order = if self.key.is_empty() { quote(STAGED_ROW) } else { self.key_list("") };
        let _ = write!(sql, " ORDER BY {order}");
        sql
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

    /// Returns the removal of staged rows that give way to a later row of the same object, which stands already;
    /// None where the table does not say which row came from where. Parameter $1: the object's id.
    #[must_use]
    pub fn drop_older_of_object(&self) -> Option<String> {
        if self.key.is_empty() || !self.table.lineage_object || !self.table.lineage_row {
            return None;
        }
        let newer = self.newer.filter(|_| !self.newer_is_absent()).map(quote);
        let is_newer = newer.map(|n| {
            format!(" AND (source.{n} > target.{n} OR (target.{n} IS NULL AND source.{n} IS NOT NULL)) IS NOT TRUE")
        });
        Some(format!(
            "DELETE FROM {} WHERE penstock_row IN (SELECT source.penstock_row FROM ({}) source JOIN {} target ON {} \
             WHERE target.penstock_object = $1 AND target.penstock_row > source.penstock_row{})",
            self.staging,
            self.cast_rows(&self.written()),
            self.table.qualified,
            self.key_join(),
            is_newer.unwrap_or_default(),
        ))
    }

    /// Columns the statement writes.
    fn written(&self) -> Vec<&StagedColumn> {
        self.columns.iter().filter(|c| c.seen).collect()
    }

    fn key_join(&self) -> String {
        let pairs: Vec<String> = self.key.iter().map(|k| format!("target.{0} = source.{0}", quote(k))).collect();
        pairs.join(" AND ")
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

    /// Returns a SELECT of the staged rows with every value in its column's type.
    fn cast_rows(&self, written: &[&StagedColumn]) -> String {
        let mut sql = format!("SELECT {}", quote(STAGED_ROW));
        for column in written {
            let name = quote(&column.target.column.name);
            let mut value = if column.target.column.pg_type == PgType::Cast {
                format!("{name}::{}{}", column.target.type_sql, column.target.collate_sql)
            } else {
                name.clone()
            };
            if let (true, Some(default)) = (column.has_absent_flag, &column.target.default_sql) {
                let place = self.columns.iter().position(|c| std::ptr::eq(c, *column)).unwrap_or(0);
                let flag = quote(&format!("{ABSENT}{place}"));
                value = format!("CASE WHEN {flag} THEN {default} ELSE {value} END");
            }
            let _ = write!(sql, ", {value} AS {name}");
        }
        let _ = write!(sql, " FROM {}", self.staging);
        sql
    }

    fn insert_from(&self, source: &str, written: &[&StagedColumn], sql: &mut String) {
        let lineage = self.lineage();
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
