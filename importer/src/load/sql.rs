//! The statements of one load, as text. Pure; the only place that builds SQL from names.

use super::{
    Target,
    catalog::{LINEAGE_LOADED_AT, LINEAGE_OBJECT, LINEAGE_ROW, Operators, Table, TableColumn},
};
use decode::encode::PgType;
use std::fmt::Write;

/// Name of the column that numbers staged rows.
pub const STAGED_ROW: &str = "penstock_row";
/// Prefix of staged flags that say a JSON row did not have the field; the suffix is the column's place.
pub const ABSENT: &str = "penstock_absent_";

/// Counts a row that is left as it is, and is false.
const COUNT_LEFT_ALONE: &str = "set_config('penstock.n_left_alone', (coalesce(nullif(current_setting(\
    'penstock.n_left_alone', true), ''), '0')::bigint + 1)::text, true) IS NULL";
/// Begins to count them.
pub const RESET_LEFT_ALONE: &str = "SET LOCAL penstock.n_left_alone = 0";
/// How many were counted.
pub const LEFT_ALONE: &str = "SELECT current_setting('penstock.n_left_alone')::bigint";

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
    /// How an upsert meets rows that are there.
    pub meets: Meets,
    /// How many rows are staged, where no two of them have the same key.
    pub n_distinct: Option<u64>,
}

/// How an upsert meets the rows that are in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meets {
    /// As they come.
    Plainly,
    /// Those that would not change are found by a look first, and left out.
    SkippingEqual,
    /// What is there is updated by a statement of its own first.
    Updating,
}

/// What a sample of staged rows finds in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    /// Rows looked for.
    pub n_rows: i64,
    /// Whose key is there.
    pub n_known: i64,
    /// Whose row there would give way.
    pub n_changed: i64,
}

/// Share of an object's rows that must change the table's for an UPDATE of its own to pay: what it leaves is
/// looked at once more. Measured: half the time of ON CONFLICT where all rows change.
const CHANGED_SHARE: f64 = 0.7;
/// Share that must stay as it is for a look at each row before the merge to pay.
/// Measured: a look costs about a third of what ON CONFLICT does with a row that does not change.
const EQUAL_SHARE: f64 = 0.3;

impl Sampled {
    /// Returns how to meet the table's rows.
    #[must_use]
    pub fn meets(self) -> Meets {
        let share = |n: i64| n as f64 / self.n_rows.max(1) as f64;
        if share(self.n_changed) >= CHANGED_SHARE {
            Meets::Updating
        } else if share(self.n_known - self.n_changed) >= EQUAL_SHARE {
            Meets::SkippingEqual
        } else {
            Meets::Plainly
        }
    }
}

/// Returns the text of a column that is cast to its type, or, where that would cut it, an error of class 22.
fn whole_text(column: &StagedColumn, name: &str) -> String {
    let Some(cuts) = &column.target.cuts else { return name.to_owned() };
    // What an assignment to varchar(63) says of a text that is longer in any case; not before it is one.
    let refused = format!("pg_catalog.\"varchar\"(({name} || repeat('x', 64))::varchar, 67, false)::text");
    format!("(CASE WHEN {} THEN {refused} ELSE {name} END)", cuts.condition(name))
}

/// Returns the body of `CREATE TEMP TABLE` for the staged columns; equal text means an equal shape.
#[must_use]
pub fn staging_shape(columns: &[StagedColumn]) -> String {
    let mut shape = format!("({} bigint", quote(STAGED_ROW));
    for column in columns {
        let travels_as = match column.target.column.pg_type {
            PgType::Cast => "text".to_owned(),
            PgType::Short(_) => column.target.cast_sql.clone(),
            _ => format!("{}{}", column.target.type_sql, column.target.collate_sql),
        };
        let _ = write!(shape, ", {} {travels_as}", quote(&column.target.column.name));
    }
    for (index, _) in columns.iter().enumerate().filter(|(_, c)| c.has_absent_flag) {
        let _ = write!(shape, ", {} boolean", quote(&format!("{ABSENT}{index}")));
    }
    shape.push(')');
    shape
}

impl<'a> LoadPlan<'a> {
    /// Returns the plan of a merge that is told nothing of what it meets.
    #[must_use]
    pub fn plain(target: &'a Target, columns: &'a [StagedColumn], staging: &'a str) -> Self {
        Self {
            table: &target.table,
            columns,
            staging,
            key: &target.key,
            newer: target.newer.as_deref(),
            meets: Meets::Plainly,
            n_distinct: None,
        }
    }
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
    /// Unless keys are known to be distinct the source is deduplicated by the key's own equality (`DISTINCT ON`), so
    /// numeric 1.0 and 1.00, citext and nondeterministic collations count as Postgres counts them.
    /// Rows are written in key order, which is the order they are locked in.
    ///
    /// ON CONFLICT locks every row it meets, which is a write. With [`Meets::SkippingEqual`] rows that would not change
    /// are left out by a look first. They stay unlocked, so an import that changes one of them meanwhile counts as the
    /// later one.
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
        let updated = self.updated();
        let skips = self.meets != Meets::Plainly && !updated.is_empty();
        let mut sql = self.source(&written, range, !skips);
        if skips {
            let order = if self.n_distinct.is_some() {
                format!(" ORDER BY {}", self.key_list("source."))
            } else {
                String::new()
            };
            let _ = write!(
                sql,
                ", changed AS (SELECT source.* FROM source LEFT JOIN {} target ON {} \
                 WHERE target.ctid IS NULL OR {}{order})",
                self.table.qualified,
                self.key_join(),
                self.changes(&updated, "source"),
            );
        }
        sql.push_str(", merged AS (");
        self.insert_from(if skips { "changed source" } else { "source" }, &written, &mut sql);
        let _ = write!(sql, " ON CONFLICT ({}) DO ", self.key_list(""));
        if updated.is_empty() {
            sql.push_str("NOTHING");
        } else {
            let (set, changes) = (self.set(&updated, "excluded"), self.changes(&updated, "excluded"));
            // Every row that meets another comes by here once, unless a trigger has left it out before.
            let counted = if self.table.may_drop_rows {
                format!("CASE WHEN {changes} THEN true ELSE {COUNT_LEFT_ALONE} END")
            } else {
                changes
            };
            let _ = write!(sql, "UPDATE SET {set} WHERE {counted}");
        }
        let _ = write!(sql, " RETURNING 1) SELECT {}, (SELECT count(*) FROM merged)", self.n_keys());
        sql
    }

    /// Returns the update of rows that are there and give way; none where no column would be updated.
    /// Parameter $1: the object's id. Yields one row: distinct keys staged, and rows updated.
    ///
    /// Half the work of ON CONFLICT, which looks, locks and then updates. Rows that are not there, or went away
    /// meanwhile, are left to [`Self::upsert`].
    #[must_use]
    pub fn update(&self) -> Option<String> {
        let (written, updated) = (self.written(), self.updated());
        if updated.is_empty() {
            return None;
        }
        let mut sql = self.source(&written, "", true);
        let _ = write!(
            sql,
            ", merged AS (UPDATE {} AS target SET {} FROM source WHERE {} AND {} RETURNING 1) \
             SELECT {}, (SELECT count(*) FROM merged)",
            self.table.qualified,
            self.set(&updated, "source"),
            self.key_join(),
            self.changes(&updated, "source"),
            self.n_keys(),
        );
        Some(sql)
    }

    /// Returns a look at about `n_rows` of the staged rows, of which there are `n_staged`. Yields the fields of
    /// [`Sampled`].
    #[must_use]
    pub fn sample(&self, n_rows: u64, n_staged: u64) -> String {
        let (written, updated) = (self.written(), self.updated());
        let percent = (100.0 * n_rows as f64 / n_staged.max(1) as f64).clamp(0.001, 100.0);
        let changes = if updated.is_empty() { "false".to_owned() } else { self.changes(&updated, "source") };
        format!(
            "SELECT count(*), count(target.ctid), count(*) FILTER (WHERE target.ctid IS NOT NULL AND {changes}) \
             FROM ({} TABLESAMPLE SYSTEM ({percent})) source LEFT JOIN {} target ON {}",
            self.cast_rows(&written),
            self.table.qualified,
            self.key_join(),
        )
    }

    /// Returns `WITH source AS (…)`: the staged rows, one a key; in key order where `ordered`.
    fn source(&self, written: &[&StagedColumn], range: &str, ordered: bool) -> String {
        let key = self.key_list("");
        let rows = self.cast_rows(written);
        if self.n_distinct.is_some() && range.is_empty() {
            return match ordered {
                true => format!("WITH source AS MATERIALIZED ({rows} ORDER BY {key})"),
                false => format!("WITH source AS NOT MATERIALIZED ({rows})"),
            };
        }
        let newest = self.newer.filter(|_| !self.newer_is_absent());
        let newest = newest.map(|n| format!(", {} DESC NULLS LAST", quote(n))).unwrap_or_default();
        format!(
            "WITH source AS MATERIALIZED (SELECT DISTINCT ON ({key}) * FROM ({rows}{range}) staged \
             ORDER BY {key}{newest}, {} DESC)",
            quote(STAGED_ROW),
        )
    }

    /// Columns an update sets, the lineage columns not included.
    fn updated(&self) -> Vec<&StagedColumn> {
        let mut written = self.written();
        written.retain(|c| !self.key.contains(&c.target.column.name) && !c.target.identity_always);
        written
    }

    /// Returns the assignments of an update from the row called `by`, `excluded` or `source`.
    fn set(&self, updated: &[&StagedColumn], by: &str) -> String {
        let own = updated.iter().map(|column| format!("{0} = {by}.{0}", quote(&column.target.column.name)));
        let lineage = self.lineage().into_iter().map(|(name, value)| match by {
            "excluded" => format!("{0} = excluded.{0}", quote(name)),
            _ => format!("{} = {value}", quote(name)),
        });
        own.chain(lineage).collect::<Vec<_>>().join(", ")
    }

    /// Returns the number of distinct keys staged, as SQL.
    fn n_keys(&self) -> String {
        match self.n_distinct {
            Some(n_rows) => format!("{n_rows}::bigint"),
            None => "(SELECT count(*) FROM source)".to_owned(),
        }
    }

    /// Returns the condition under which the row `target` gives way to the row called `by`.
    fn changes(&self, updated: &[&StagedColumn], by: &str) -> String {
        let newer = self.newer.filter(|_| !self.newer_is_absent());
        let differs: Vec<String> = updated
            .iter()
            .map(|c| {
                let name = quote(&c.target.column.name);
                match c.target.comparable {
                    true => c.target.operators.distinct(&format!("target.{name}"), &format!("{by}.{name}")),
                    false => format!("target.{name}::text IS DISTINCT FROM {by}.{name}::text"),
                }
            })
            .collect();
        let differs = differs.join(" OR ");
        // A file that does not say how new its rows are counts as NULL, which is older than anything.
        match (self.newer.map(quote), newer) {
            (Some(column), Some(_)) => {
                let less = self.operators(self.newer.unwrap_or_default()).less;
                format!("(({differs}) AND (target.{column} IS NULL OR NOT {by}.{column} {less} target.{column}))")
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

    /// Returns whether [`Self::upsert`] counts the rows that it leaves as they are, between [`RESET_LEFT_ALONE`] and
    /// [`LEFT_ALONE`].
    #[must_use]
    pub fn counts_left_alone(&self) -> bool {
        self.table.may_drop_rows && !self.updated().is_empty()
    }

    /// Returns the count of staged keys that are in the table; after [`Self::upsert`] all are, but for rows that a trigger
    /// left out.
    #[must_use]
    pub fn count_present(&self) -> String {
        format!(
            "{} SELECT count(*) FROM source JOIN {} target ON {}",
            self.source(&self.written(), "", false),
            self.table.qualified,
            self.key_join(),
        )
    }

    /// Returns the count of staged keys that gave way to a newer row already there; run after [`Self::upsert`],
    /// but before it when [`Self::newer_is_absent`], for a row inserted with the column's default has not given way.
    ///
    /// Exact after it because ON CONFLICT DO UPDATE locks every row it meets, also those its WHERE leaves alone.
    #[must_use]
    pub fn count_gave_way(&self) -> Option<String> {
        let newer = quote(self.newer?);
        let written = self.written();
        let less = self.operators(self.newer?).less;
        let older = match self.newer_is_absent() {
            true => String::new(),
            false => format!(" AND (source.{newer} IS NULL OR source.{newer} {less} target.{newer})"),
        };
        Some(format!(
            "{} SELECT count(*) FROM source JOIN {} target ON {} WHERE target.{newer} IS NOT NULL{older}",
            self.source(&written, "", false),
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
            let less = self.operators(self.newer.unwrap_or_default()).less;
            format!(
                " AND (target.{n} {less} source.{n} OR (target.{n} IS NULL AND source.{n} IS NOT NULL)) IS NOT TRUE"
            )
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
        let pair = |k: &String| format!("target.{0} {1} source.{0}", quote(k), self.operators(k).equal);
        self.key.iter().map(pair).collect::<Vec<_>>().join(" AND ")
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
        let mut sql = format!("SELECT {}", quote(STAGED_ROW));
        for column in written {
            let name = quote(&column.target.column.name);
            let mut value = if column.target.column.pg_type == PgType::Cast {
                format!("{}::{}{}", whole_text(column, &name), column.target.cast_sql, column.target.collate_sql)
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
