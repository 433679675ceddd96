//! The columns of the rows that a transform takes and makes.

use super::Transform;
use crate::{
    config::fragment::Fragment,
    load::{
        catalog::{Table, TableColumn},
        sql::StagedColumn,
    },
};
use decode::{Column, encode::PgType};
use std::collections::BTreeSet;

impl Transform {
    /// Finds out whether there is nothing to do for SQL.
    pub(super) fn leave_out(&mut self, table: &Table, declared: &Table) {
        let is_of_table = |column: &&TableColumn| {
            let same = |own: &&TableColumn| own.column.name == column.column.name;
            table.columns.iter().find(same)
        };
        let is_read_alike = |column: &TableColumn| match is_of_table(&column) {
            Some(own) => (&own.type_sql, &own.collate_sql) == (&column.type_sql, &column.collate_sql),
            None => self.early.asks(&column.column.name),
        };
        let is_plain = self.join.is_none() && self.set.is_empty() && self.awaits.is_empty() && self.early.is_all();
        if !is_plain || !declared.columns.iter().all(is_read_alike) {
            return;
        }
        let unsent: Vec<TableColumn> =
            self.columns.iter().filter(|column| is_of_table(column).is_none()).cloned().collect();
        self.unsent = Some(unsent.iter().map(|column| column.column.name.clone()).collect());
        // Nothing comes between these and the merge, which applies their defaults.
        self.columns = table.columns.iter().cloned().chain(unsent).collect();
    }

    /// Returns the parts of `where` that are left to Postgres, over the table's columns; none where there are others to be
    /// asked, or something else is to be done.
    pub(in crate::load) fn late_condition(&self, table: &Table) -> Option<String> {
        let is_plain = self.join.is_none() && self.set.is_empty() && self.awaits.is_empty();
        let is_of_table = |column: &TableColumn| table.column(&column.column.name).is_some();
        let is_plain = is_plain && self.columns.iter().all(is_of_table);
        // No trigger leaves out rows, which would count as dropped by the condition.
        if !is_plain || self.runs_as.role().is_some() || self.is_typed || table.may_drop_rows {
            return None;
        }
        let late = self.early.parts.iter().filter(|(_, is_early)| !is_early);
        let late: Option<Vec<_>> =
            late.map(|(sql, _)| Some(format!("(\n{}\n)", Fragment::of_columns(sql, &table.qualified)?))).collect();
        late.filter(|late| !late.is_empty()).map(|late| late.join(" AND "))
    }

    /// Returns the columns of `input`: those the table takes from fields, in its order, then what else is declared or used.
    pub(super) fn input_columns(&self, table: &Table, declared: &Table) -> Vec<TableColumn> {
        let mut wanted: BTreeSet<String> = declared.columns.iter().map(|column| column.column.name.clone()).collect();
        wanted.extend(self.fields().into_iter().filter(|field| !field.starts_with("penstock_")));
        let mut columns = Vec::new();
        for column in &table.columns {
            let name = &column.column.name;
            let is_wanted = wanted.remove(name);
            let own = declared.columns.iter().find(|other| other.column.name == *name);
            let mut taken = own.unwrap_or(column).clone();
            // A default may write to a sequence: it is for the merge, which is told that the field was absent.
            taken.default_sql = None;
            if self.sets(name) {
                taken.column = Column { not_null: false, has_default: false, ..taken.column };
            } else {
                let Column { not_null, has_default, .. } = column.column;
                taken.column = Column { not_null, has_default, ..taken.column };
            }
            if is_wanted || !self.sets(name) {
                columns.push(taken);
            }
        }
        for name in wanted {
            let own = declared.columns.iter().find(|other| other.column.name == name);
            columns.push(own.cloned().unwrap_or_else(|| {
                let column = Column { name, pg_type: PgType::Text(None), not_null: false, has_default: false };
                TableColumn::staged_only(column, "text")
            }));
        }
        columns
    }

    /// Returns the fields of `input` that fragments name.
    fn fields(&self) -> BTreeSet<String> {
        let join = self.join.as_deref().map(Fragment::join);
        let expressions = self.condition.iter().chain(self.set.values()).map(|sql| Fragment::expression(sql));
        // A checked configuration has no other.
        let named = join.into_iter().chain(expressions).flatten().flat_map(|fragment| fragment.fields);
        named.chain(self.awaited_fields.iter().cloned()).collect()
    }

    /// Returns the columns of the rows it makes of `staged` ones, each of its own type already.
    #[must_use]
    pub fn made_columns(&self, table: &Table, staged: &[StagedColumn]) -> Vec<StagedColumn> {
        let made = table.columns.iter().filter_map(|column| {
            let of = staged.iter().find(|other| other.target.column.name == column.column.name);
            let is_set = self.sets(&column.column.name);
            let has_absent_flag = !is_set && of?.has_absent_flag;
            let mut target = column.clone();
            if matches!(target.column.pg_type, PgType::Cast | PgType::Short(_)) {
                target.column.pg_type = PgType::Text(None);
            }
            // What is longer than the column, or outside its domain, the merge refuses as it would any row.
            target.type_sql.clone_from(&target.cast_sql);
            Some(StagedColumn { target, has_absent_flag, seen: true })
        });
        made.collect()
    }
}
