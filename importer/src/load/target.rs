//! A dataset resolved against the catalog: everything a load needs to know about where rows go.

use super::{
    catalog::{Misfit, NoUniqueIndex, Table, TableColumn, TableError, in_index_order, resolve_key},
    columns, recipe,
    transform::Transform,
};
use crate::config::{self, Mode, OnDelete};
use decode::{Column, Field, MappingSpec, Notation, OnNewField, ReadOptions, encode::PgType};
use service::words::chain;
use sqlx::PgConnection;
use std::{collections::BTreeMap, sync::Arc};

/// A dataset and its table.
#[derive(Debug, Clone)]
pub struct Target {
    /// The dataset, as it is configured.
    pub config: config::Dataset,
    /// The table, as the catalog described it.
    pub table: Arc<Table>,
    /// Key columns by their catalog names, in the order of their index.
    pub key: Vec<String>,
    /// The column that says which of two rows is newer, by its catalog name.
    pub newer: Option<String>,
    /// Columns that no update writes, by their catalog names.
    pub keep: Vec<String>,
    /// How to read the objects.
    pub read: ReadOptions,
    /// The SQL that rows go through on their way.
    pub transform: Option<Arc<Transform>>,
    /// What shapes its rows.
    pub recipe: String,
    /// How values of columns are written, where their types do not say.
    pub types: BTreeMap<String, Notation>,
    /// The key's columns that fields fill.
    field_key: Vec<String>,
}

impl Target {
    /// Brings a dataset and its table together. What was found of the same SQL when the target was resolved `before` is
    /// trusted for a while.
    ///
    /// # Errors
    /// [`TableError`] with a sentence naming what does not fit, or of the database.
    pub async fn resolve(
        connection: &mut PgConnection,
        dataset: &config::Dataset,
        read: ReadOptions,
        before: Option<&Self>,
    ) -> Result<Self, TableError> {
        let table = Table::read(connection, &dataset.table).await?;
        if table.is_view {
            let problem = match (dataset.mode, dataset.on_new_field) {
                (Mode::Append, OnNewField::AddColumn) => Some("gets no columns by on_new_field = \"add_column\""),
                (Mode::Append, _) => None,
                _ => Some("takes mode = \"append\" alone"),
            };
            if let Some(problem) = problem {
                return Err(TableError::unusable(
                    Misfit::NotATable,
                    format!("{} is a view, which {problem}", dataset.table),
                ));
            }
        }
        let unusable = |error: anyhow::Error| TableError::unusable(Misfit::Other, chain(&error));
        let key = resolve_key(&table, &dataset.key).map_err(unusable)?;
        let key = match in_index_order(connection, &table, &key).await? {
            Some(key) => key,
            None if dataset.mode == Mode::Upsert => return Err(NoUniqueIndex::of(&table, &key).into()),
            None => key,
        };
        let newer = resolve_key(&table, dataset.newer.as_slice()).map_err(unusable)?.pop();
        let removes = dataset.mode == Mode::Replace || dataset.on_delete == OnDelete::Remove;
        if removes && !table.lineage_object {
            return Err(TableError::unusable(
                Misfit::NoLineage,
                format!(
                    "mode = \"replace\" and on_delete = \"remove\" need a column penstock_object bigint in {}",
                    dataset.table
                ),
            ));
        }
        let keep = resolve_key(&table, &dataset.keep).map_err(unusable)?;
        if let Some(newer) = newer.as_ref().filter(|newer| keep.contains(newer)) {
            let problem = format!("keep has {newer:?}, which newer compares: an update has to write it");
            return Err(TableError::unusable(Misfit::Other, problem));
        }
        let mut transform = Transform::resolve(connection, dataset, &table).await?;
        if let Some(transform) = &mut transform {
            let before = before.and_then(|before| Some((before.transform.as_deref()?, &*before.table)));
            transform.inspect(connection, &table, &keep, before).await?;
        }
        let sets = |column: &String| transform.as_ref().is_some_and(|transform| transform.sets(column));
        let field_key = key.iter().filter(|column| !sets(column)).cloned().collect();
        let (config, table, transform) = (dataset.clone(), Arc::new(table), transform.map(Arc::new));
        let recipe = recipe::of(dataset, transform.as_deref());
        let types = config.types.clone();
        let mut target = Self { recipe, config, table, key, newer, keep, read, transform, types, field_key };
        target.add_notations();
        match target.without_column() {
            Some((setting, name)) => {
                let problem = format!("{setting} names {name:?}, which is no column that a field fills");
                Err(TableError::unusable(Misfit::Other, problem))
            }
            None => Ok(target),
        }
    }

    /// Returns the columns that fields go to: of the table, or of the rows that a transform takes.
    #[must_use]
    pub fn input_columns(&self) -> &[TableColumn] {
        self.transform.as_ref().map_or(&self.table.columns, |transform| &transform.columns)
    }

    /// Adds how the log that the files are writes times, for columns of times.
    fn add_notations(&mut self) {
        let Some(preset) = self.config.text.preset else { return };
        for (field, notation) in preset.notations() {
            let name = self.config.rename.get(*field).map_or(*field, String::as_str);
            let column = self.input_columns().iter().map(|column| &column.column).find(|column| column.name == name);
            let is_time = |of: &PgType| matches!(of, PgType::Date | PgType::Timestamp | PgType::TimestampTz);
            if let Some(column) = column.filter(|column| is_time(&column.pg_type))
                && let Ok(notation) = notation.parse()
            {
                self.types.entry(column.name.clone()).or_insert(notation);
            }
        }
    }

    /// Returns what settings of single fields name in vain.
    fn without_column(&self) -> Option<(&'static str, &str)> {
        let has = |name: &str| self.input_columns().iter().any(|column| column.column.name == name);
        let dataset = &self.config;
        let null = dataset.csv.null_by_column.keys().map(|name| ("csv.null_by_column", name));
        let null = null.filter(|(_, name)| !has(name));
        let takes_any = matches!(dataset.on_new_field, OnNewField::Extras);
        let fields = dataset.fields.keys().map(|name| ("fields", name));
        let fields = fields.filter(|(_, name)| !takes_any && !has(dataset.rename.get(*name).unwrap_or(name)));
        let types = dataset.types.keys().map(|name| ("types", name)).filter(|(_, name)| !has(name));
        null.chain(fields).chain(types).map(|(setting, name)| (setting, name.as_str())).next()
    }

    /// Returns these columns as the decoder wants them.
    #[must_use]
    pub fn decoder_columns(&self) -> Vec<Column> {
        self.input_columns().iter().map(|column| column.column.clone()).collect()
    }

    /// Returns what a mapping of fields to these columns is made from.
    #[must_use]
    pub fn mapping_spec<'a>(
        &'a self,
        columns: &'a [Column],
        captures: &'a [(String, Option<String>)],
    ) -> MappingSpec<'a> {
        MappingSpec {
            columns,
            rename: &self.config.rename,
            captures,
            types: &self.types,
            on_new_field: self.config.on_new_field,
            extras_column: self.config.extras_column.as_deref(),
            key: &self.field_key,
        }
    }

    /// Returns whether no column takes this field and one may be added for it.
    #[must_use]
    pub fn lacks(&self, field: &str) -> bool {
        !self.config.rename.contains_key(field)
            && self.table.column(field).is_none()
            && self.config.extras_column.as_deref() != Some(field)
            && addable(field)
    }

    /// Returns the target as it will be when these fields have columns, as far as it lacks them.
    #[must_use]
    pub fn with_columns(&self, fields: &[Field]) -> Self {
        let mut target = self.clone();
        let table = Arc::make_mut(&mut target.table);
        for field in fields.iter().filter(|field| self.lacks(&field.name)) {
            let pg_type = if field.nested { PgType::Jsonb } else { PgType::Text(None) };
            let column = Column { name: field.name.clone(), pg_type, not_null: false, has_default: false };
            let column = TableColumn::staged_only(column, columns::type_sql(field));
            table.columns.push(TableColumn { comparable: true, ..column });
        }
        target
    }
}

/// What names of our own begin with.
const OURS: &str = "penstock_";

/// Returns whether an untrusted field name may become a column: at most 63 bytes (NAMEDATALEN - 1), no control
/// characters, none of the names every table has taken already, none that may be ours (lineage, staging).
#[must_use]
pub fn addable(field: &str) -> bool {
    const SYSTEM: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];
    let is_ours = field.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS));
    !field.is_empty()
        && field.len() <= 63
        && !field.chars().any(char::is_control)
        && !SYSTEM.contains(&field)
        && !is_ours
}
