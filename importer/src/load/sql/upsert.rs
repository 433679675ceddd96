//! An upsert's statements: how staged rows meet those that are in the table.

use super::{ALL, LoadPlan, STAGED_ROW, StagedColumn, quote};
use std::fmt::Write;

/// Counts a row that is left as it is, and is false.
const COUNT_LEFT_ALONE: &str = "set_config('penstock.n_left_alone', (coalesce(nullif(current_setting(\
    'penstock.n_left_alone', true), ''), '0')::bigint + 1)::text, true) IS NULL";
/// Begins to count them.
pub const RESET_LEFT_ALONE: &str = "SET LOCAL penstock.n_left_alone = 0";
/// How many were counted.
pub const LEFT_ALONE: &str = "SELECT current_setting('penstock.n_left_alone')::bigint";

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
service::from_row!(Sampled { n_rows, n_known, n_changed });

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

impl LoadPlan<'_> {
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
    pub fn upsert(&self, range: &str) -> String {
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
                ", changed AS (SELECT source.* FROM source LEFT JOIN {} WHERE target.ctid IS NULL OR {}{order})",
                self.target(),
                self.changes(&updated, "source"),
            );
        }
        sql.push_str(", merged AS (");
        self.insert_from(if skips { "changed source" } else { "source" }, &written, self.lineage(), &mut sql);
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
        let mut sql = self.source(&written, ALL, true);
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
            "SELECT count(*) AS n_rows, count(target.ctid) AS n_known, \
                    count(*) FILTER (WHERE target.ctid IS NOT NULL AND {changes}) AS n_changed \
             FROM ({} TABLESAMPLE SYSTEM ({percent})) source LEFT JOIN {}",
            self.cast_rows(&written),
            self.target(),
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
        let newest = self.staged_newer().map(|n| format!(", {} DESC NULLS LAST", quote(n))).unwrap_or_default();
        format!(
            "WITH source AS MATERIALIZED (SELECT DISTINCT ON ({key}) * FROM ({rows}{range}) staged \
             ORDER BY {key}{newest}, {} DESC)",
            quote(STAGED_ROW),
        )
    }

    /// Columns an update sets, the lineage columns not included.
    fn updated(&self) -> Vec<&StagedColumn> {
        let mut written = self.written();
        let stays = |c: &StagedColumn| c.target.identity_always || self.keep.contains(&c.target.column.name);
        written.retain(|c| !self.key.contains(&c.target.column.name) && !stays(c));
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
        let mut differs = differs.join(" OR ");
        if let Some(head_id) = self.only_of_head {
            differs = format!(
                "({differs}) AND (target.penstock_object IS NULL OR target.penstock_object = ANY ({}))",
                versions_of(head_id)
            );
        }
        // A file that does not say how new its rows are counts as NULL, which is older than anything.
        match (self.newer.map(quote), self.staged_newer()) {
            (Some(column), Some(newer)) => {
                let less = self.operators(newer).less;
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

    /// Returns the dataset's `newer` column where the file has it.
    fn staged_newer(&self) -> Option<&str> {
        self.newer.filter(|_| !self.newer_is_absent())
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
        format!("{} SELECT count(*) FROM source JOIN {}", self.source(&self.written(), ALL, false), self.target())
    }

    /// Returns the count of staged keys that gave way to a newer row already there; run after [`Self::upsert`],
    /// but before it when [`Self::newer_is_absent`], for a row inserted with the column's default has not given way.
    ///
    /// Exact after it because ON CONFLICT DO UPDATE locks every row it meets, also those its WHERE leaves alone.
    #[must_use]
    pub fn count_gave_way(&self) -> Option<String> {
        let newer = quote(self.newer?);
        let less = self.operators(self.newer?).less;
        let older = match self.newer_is_absent() {
            true => String::new(),
            false => format!(" AND (source.{newer} IS NULL OR source.{newer} {less} target.{newer})"),
        };
        Some(format!("{} WHERE target.{newer} IS NOT NULL{older}", self.count_present()))
    }

    /// Returns the removal of staged rows that give way to a row already there; for where [`Self::newer_is_absent`].
    #[must_use]
    pub fn drop_given_way(&self) -> Option<String> {
        let newer = quote(self.newer?);
        Some(self.drop_staged(&format!("target.{newer} IS NOT NULL")))
    }

    /// Returns the removal of the table's rows of all versions of a key, but for those whose own key is staged. A version
    /// leaves rows that are equal as they are, and so as those of an older one.
    #[must_use]
    pub fn delete_left_out(&self, head_id: i64) -> String {
        let keys: Vec<&StagedColumn> =
            self.columns.iter().filter(|column| self.key.contains(&column.target.column.name)).collect();
        format!(
            "DELETE FROM {} AS target WHERE penstock_object = ANY ({}) \
             AND NOT EXISTS (SELECT FROM ({}) source WHERE {})",
            self.table.qualified,
            versions_of(head_id),
            self.cast_rows(&keys),
            self.key_join()
        )
    }

    /// Returns the removal of staged rows that give way to a later row of the same object, which stands already;
    /// None where the table does not say which row came from where. Parameter $1: the object's id.
    #[must_use]
    pub fn drop_older_of_object(&self) -> Option<String> {
        if self.key.is_empty() || !self.table.lineage_object || !self.table.lineage_row {
            return None;
        }
        let is_newer = self.staged_newer().map(|newer| {
            let (n, less) = (quote(newer), self.operators(newer).less);
            format!(
                " AND (target.{n} {less} source.{n} OR (target.{n} IS NULL AND source.{n} IS NOT NULL)) IS NOT TRUE"
            )
        });
        let later = "target.penstock_object = $1 AND target.penstock_row > source.penstock_row";
        Some(self.drop_staged(&format!("{later}{}", is_newer.unwrap_or_default())))
    }

    /// Returns the removal of the staged rows that meet a row of the table under a condition. By their place, for a
    /// transform or a command may have made several of one row.
    fn drop_staged(&self, condition: &str) -> String {
        format!(
            "DELETE FROM {0} WHERE ctid IN \
             (SELECT source.penstock_place FROM (SELECT ctid AS penstock_place, {1} FROM {0}) source JOIN {2} \
             WHERE {condition})",
            self.staging,
            self.cast_values(&self.written()),
            self.target(),
        )
    }
}

/// Returns the ids of all versions of a key, as SQL.
fn versions_of(head_id: i64) -> String {
    format!("ARRAY(SELECT id FROM penstock.object WHERE head_id = {head_id})")
}
