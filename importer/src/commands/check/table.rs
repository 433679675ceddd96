//! What `check` says about a dataset and its table.

use super::{Findings, bucket, sample::Seen};
use crate::{
    commands::output::{self, Table as Printed, shell_word},
    config::{Config, Dataset, Mode, OnDelete},
    load::{
        Target,
        catalog::{Misfit, NoUniqueIndex, TableColumn, TableError},
    },
};
use anyhow::Context;
use decode::{Field, Fields, Format, Mapping, MappingSpec, OnNewField, Slot};
use service::{postgres::Server, words::chain};
use sqlx::{PgConnection, Row};
use std::{io::Write, sync::Arc};

/// What the checks of one dataset share.
pub struct Subject<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The dataset.
    pub dataset: &'a Dataset,
    /// Names of its pattern's captures.
    pub captures: &'a [String],
}

impl Subject<'_> {
    fn name(&self) -> String {
        format!("dataset {}", self.dataset.name)
    }
}

/// Checks the table, prints field → column → type, and judges what the sample showed.
///
/// # Errors
/// When Postgres fails or the result cannot be written.
pub async fn check(
    connection: &mut PgConnection,
    server: &Server,
    subject: &Subject<'_>,
    object: Option<bucket::Object>,
    findings: &mut Findings,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let Subject { config, dataset, .. } = *subject;
    let read = dataset.read_options(&config.limits, bucket::buffer_bytes(config));
    let resolving = async { Ok::<_, anyhow::Error>(Target::resolve(connection, dataset, read, None).await) };
    let target = match server.answer("read the catalog", resolving).await? {
        Ok(target) => Arc::new(target),
        Err(TableError::Unusable { misfit, problem }) => {
            findings.wrong(subject.name(), problem, about_table(misfit));
            return Ok(());
        }
        Err(TableError::NoUniqueIndex(NoUniqueIndex { problem, mended_by })) => {
            findings.wrong(subject.name(), problem, mended_by);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let looking = check_catalog(connection, subject, &target, findings);
    server.answer("read indexes and rights", looking).await?;

    let counting = count_outdated(connection, dataset, &target.recipe);
    let (n_outdated, n_left, left) = server.answer("count objects by their recipe", counting).await?;

    let source = match &dataset.pattern {
        Some(pattern) => pattern.clone(),
        None => format!("after {}", dataset.after.join(", ")),
    };
    let arrow = format!("{source} -> {}, {}", target.table.qualified, described_mode(&target));
    output::line(out, &format!("dataset {}: {arrow}", dataset.name))?;
    for line in described_condition(&target) {
        output::line(out, &format!("  {line}"))?;
    }
    if n_outdated > 0 {
        let replay = format!("`importer replay --outdated --dataset {}` makes them anew", shell_word(&dataset.name));
        let stand = "stand by another recipe, or one that was not recorded";
        output::line(out, &format!("  {n_outdated} of its objects {stand}; {replay}"))?;
    }
    if n_left > 0 {
        let force = "`importer replay --force` tries one again";
        output::line(out, &format!("  {n_left} of its objects could not be made anew by this recipe; {force}"))?;
        for object in left {
            output::line(out, &format!("    {object}"))?;
        }
    }
    let seen = match object {
        Some(object) => {
            let address = object.address();
            match Seen::read(object, Arc::clone(&target)).await {
                Ok(seen) => {
                    output::line(out, &format!("  fields of {address}"))?;
                    Some((address, seen))
                }
                Err(error) => {
                    findings.wrong(
                        subject.name(),
                        format!("{address} cannot be read: {}", chain(&error)),
                        format!("put it right, or narrow match; `importer load --dry-run {address}` tries again"),
                    );
                    None
                }
            }
        }
        None => {
            output::line(out, "  no object to read fields from yet; by name, these would fit")?;
            None
        }
    };
    let seen = match seen {
        Some((address, seen)) => {
            judge_sample(subject, &target, &address, &seen, findings);
            seen
        }
        None => match Seen::nothing(&target, captures(subject)) {
            Ok(seen) => seen,
            Err(problem) => {
                findings.wrong(subject.name(), problem, "change the dataset's rename, key or extras_column");
                return Ok(());
            }
        },
    };
    printed(subject, &target, &seen).write(out, "  ")?;
    Ok(())
}

/// Returns how many of a dataset's objects that stand by another recipe, or by one that was not recorded, may be made anew,
/// how many could not be, and some of these with the reason. None while the ledger is not there, or is of an earlier
/// release.
async fn count_outdated(
    connection: &mut PgConnection,
    dataset: &Dataset,
    recipe: &str,
) -> anyhow::Result<(i64, i64, Vec<String>)> {
    let counting = sqlx::query_as(include_str!("outdated.sql"));
    match counting.bind(&dataset.name).bind(recipe).fetch_one(connection).await {
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("3F000" | "42P01" | "42703")) => {
            Ok((0, 0, Vec::new()))
        }
        counted => counted.context("count objects by their recipe"),
    }
}

/// Returns what to do about a table that cannot be loaded into.
fn about_table(misfit: Misfit) -> &'static str {
    match misfit {
        Misfit::Missing => {
            "create it (`importer describe FILE` prints a CREATE TABLE for one of its files), or change the dataset's table"
        }
        Misfit::RowSecurity => "let a role that owns the table or has BYPASSRLS load into it",
        Misfit::NoLineage => "ALTER TABLE … ADD COLUMN penstock_object bigint, with an index on it",
        Misfit::LineageType => "change its type to bigint, or rename it",
        Misfit::NotATable => "name the table behind it",
        Misfit::Transform => "change that SQL, or what it names in the database",
        Misfit::Other => "change the dataset's table, key or newer to what the table has",
    }
}

fn captures(subject: &Subject<'_>) -> Vec<(String, Option<String>)> {
    subject.captures.iter().map(|name| (name.clone(), None)).collect()
}

fn described_mode(target: &Target) -> String {
    if target.key.is_empty() {
        target.config.mode.to_string()
    } else {
        format!("{} by {}", target.config.mode, target.key.join(", "))
    }
}

/// Returns, for each part of `where`, what it is applied to and by whom.
fn described_condition(target: &Target) -> impl Iterator<Item = String> {
    let parts = target.transform.iter().flat_map(|transform| &transform.early.parts);
    let is_copied = target.transform.as_ref().is_some_and(|transform| transform.copied.is_some());
    let may_be_parquet = matches!(target.config.format, Format::Auto | Format::Parquet);
    parts.map(move |(sql, is_early)| {
        let by = match (is_early, may_be_parquet) {
            (false, _) if is_copied => "by Postgres, while rows are copied or once they are staged",
            (false, _) => "by Postgres, to rows that are staged",
            (true, false) => "while rows are read",
            (true, true) => "while rows are read, and to row groups of Parquet before",
        };
        format!("where {}: {by}", sql.split_whitespace().collect::<Vec<_>>().join(" "))
    })
}

/// Checks what only the catalog knows: rights and indexes.
async fn check_catalog(
    connection: &mut PgConnection,
    subject: &Subject<'_>,
    target: &Target,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let dataset = subject.dataset;
    let row = sqlx::query(include_str!("table.sql"))
        .bind(target.table.oid)
        .fetch_one(connection)
        .await
        .with_context(|| format!("read indexes and rights of {}", target.table.qualified))?;
    let has = |right: &str| row.try_get::<bool, _>(right);
    if target.table.lineage_object && !target.table.is_view && !has("lineage_is_indexed")? {
        findings.warn(
            subject.name(),
            "no index on penstock_object, so finding an object's rows reads the whole table",
            format!("CREATE INDEX ON {} (penstock_object)", target.table.qualified),
        );
    }
    for function in row.try_get::<Vec<String>, _>("searching")? {
        findings.warn(
            subject.name(),
            format!(
                "what {function} names without a schema is not found: search_path is pg_catalog while rows are written"
            ),
            format!("unless all is named with its schema, ALTER FUNCTION {function} SET search_path = …"),
        );
    }
    if !dataset.awaits.is_empty()
        && target.config.mode == Mode::Upsert
        && !target.table.lineage_object
        && target.newer.is_none()
    {
        findings.warn(
            subject.name(),
            "awaits: an object that is loaded again writes over what later objects wrote to the same keys since",
            "add a column penstock_object bigint, with an index on it, or name a newer column, \
             unless no two objects have the same key",
        );
    }
    let takes_rows_away = target.table.lineage_object && !dataset.awaits.is_empty();
    let removes = target.config.mode == Mode::Replace || dataset.on_delete == OnDelete::Remove || takes_rows_away;
    let needed = [
        ("SELECT", has("may_select")?, true),
        ("INSERT", has("may_insert")?, true),
        ("UPDATE", has("may_update")?, target.config.mode == Mode::Upsert),
        ("DELETE", has("may_delete")?, removes),
    ];
    let lacking: Vec<&str> =
        needed.iter().filter(|(_, has, needed)| *needed && !has).map(|(right, ..)| *right).collect();
    if !lacking.is_empty() {
        findings.wrong(
            subject.name(),
            format!("this role lacks {}", lacking.join(", ")),
            format!("GRANT {} ON {} TO it", lacking.join(", "), target.table.qualified),
        );
    }
    if dataset.on_new_field == OnNewField::AddColumn && !has("may_alter")? {
        findings.wrong(
            subject.name(),
            format!("on_new_field = \"add_column\" needs the owner of {}", target.table.qualified),
            "run as the owner, or use \"extras\", \"ignore\" or \"reject\"",
        );
    }
    Ok(())
}

/// Says what the sample's rows would meet.
fn judge_sample(subject: &Subject<'_>, target: &Target, address: &str, seen: &Seen, findings: &mut Findings) {
    if let Some(reject) = &seen.first_reject {
        findings.warn(
            subject.name(),
            format!(
                "{} of the first {} rows of {address} would be rejected, the first being row {reject}",
                seen.n_rejected, seen.n_read
            ),
            format!(
                "see why with `importer load --dry-run --dataset {} {address}`, then change column or file",
                subject.dataset.name
            ),
        );
    }
    let is_set = |column: &TableColumn| target.transform.as_deref().is_some_and(|sql| sql.sets(&column.column.name));
    let unmapped: Vec<&TableColumn> =
        target.table.columns.iter().filter(|column| !seen.fills(column) && !is_set(column)).collect();
    let names = |columns: &[&TableColumn]| columns.iter().map(|c| c.column.name.clone()).collect::<Vec<_>>().join(", ");
    let (stuck, free): (Vec<_>, Vec<_>) =
        unmapped.into_iter().partition(|column| column.column.not_null && !column.column.has_default);
    if !free.is_empty() {
        findings.warn(
            subject.name(),
            format!(
                "unmapped columns: no field of {address} fills {}, so they get their default or stay NULL",
                names(&free)
            ),
            "rename a field to them if this is not intended",
        );
    }
    if !stuck.is_empty() {
        findings.warn(
            subject.name(),
            format!(
                "unmapped columns: no field of {address} fills {}, NOT NULL without a default, so every row would be rejected",
                names(&stuck)
            ),
            "rename a field to it, give it a default, or drop NOT NULL",
        );
    }
}

/// Returns the table field → column → type.
fn printed(subject: &Subject<'_>, target: &Target, seen: &Seen) -> Printed {
    let mut table = Printed::new(&["field", "column", "type", ""]);
    let type_of = |column: &str| {
        let found = target.table.columns.iter().find(|c| c.column.name == column);
        found.map_or("-".to_owned(), |c| c.type_sql.clone())
    };
    let mut row = |field: &str, column: Option<&str>, note: &str| {
        let type_sql = column.map_or("-".to_owned(), type_of);
        table.push([field.to_owned(), column.unwrap_or("-").to_owned(), type_sql, note.to_owned()]);
    };
    for name in subject.captures {
        let renamed = target.config.rename.get(name).unwrap_or(name);
        let column = target.table.column(renamed).map(|c| c.column.name.as_str());
        row(name, column, if column.is_some() { "from the path" } else { "from the path, no such column" });
    }
    for (field, slot) in seen.fields(target) {
        match slot {
            Slot::Column(index) => {
                let column = seen.mapping.columns()[index].name.as_str();
                row(&field, Some(column), if target.key.iter().any(|key| key == column) { "key" } else { "" });
            }
            Slot::Extras => row(&field, target.config.extras_column.as_deref(), "extra"),
            Slot::Ignored if target.config.on_new_field == OnNewField::AddColumn => {
                row(&field, None, "a column will be added")
            }
            Slot::Ignored => row(&field, None, "ignored, no such column"),
            Slot::Reject => row(&field, None, "no such column, so rows with it are rejected"),
        }
    }
    for column in target.table.columns.iter().filter(|column| !seen.fills(column)) {
        let note = match (column.column.has_default, column.column.not_null) {
            (true, _) => "default",
            (false, true) => "required",
            (false, false) => "NULL",
        };
        row("-", Some(&column.column.name), note);
    }
    table
}

impl Seen {
    /// Returns the sample's fields and where each goes; without a sample, a field for every column.
    fn fields(&self, target: &Target) -> Vec<(String, Slot)> {
        let by_name = |name: &str| (name.to_owned(), self.mapping.slot_of(name));
        match &self.fields {
            Fields::Named(fields) => {
                fields.iter().enumerate().map(|(index, field)| (field.name.clone(), self.mapping.slot(index))).collect()
            }
            Fields::Positional(n_fields) => {
                (0..*n_fields).map(|index| ((index + 1).to_string(), self.mapping.slot(index))).collect()
            }
            Fields::Open => {
                let filled = self.mapping.columns().iter().enumerate();
                let filled = filled.filter(|(index, column)| {
                    self.has_field(*index) && Some(&column.name) != target.config.extras_column.as_ref()
                });
                let name_of = |column: &str| {
                    let renamed = target.config.rename.iter().find(|(_, to)| to.eq_ignore_ascii_case(column));
                    renamed.map_or(column.to_owned(), |(field, _)| field.clone())
                };
                let known = filled.map(|(index, column)| (name_of(&column.name), Slot::Column(index)));
                known.chain(self.new_fields.iter().map(|Field { name, .. }| by_name(name))).collect()
            }
        }
    }

    /// Returns whether a field, the path or the extras fill the column.
    fn fills(&self, column: &TableColumn) -> bool {
        let index = self.mapping.columns().iter().position(|c| c.name == column.column.name);
        index.is_some_and(|index| {
            self.mapping.is_captured(index) || self.has_field(index) || self.mapping.extras() == Some(index)
        })
    }

    fn has_field(&self, column: usize) -> bool {
        !self.mapping.is_captured(column) && self.seen_columns.get(column).copied().unwrap_or(true)
    }
}

impl Seen {
    /// Returns what is known without a sample: every column takes the field of its name.
    ///
    /// # Errors
    /// Why the fields and the table cannot be brought together.
    pub fn nothing(target: &Target, captures: Vec<(String, Option<String>)>) -> Result<Self, String> {
        let fields = Fields::Open;
        // What the captures take is not known without an object; no column refuses it for being absent here.
        let mut decoder_columns = target.decoder_columns();
        decoder_columns.iter_mut().for_each(|column| column.not_null = false);
        let spec = MappingSpec { key: &[], ..target.mapping_spec(&decoder_columns, &captures) };
        let mapping = Mapping::new(&fields, &spec)?;
        Ok(Self {
            fields,
            mapping: Arc::new(mapping),
            seen_columns: Vec::new(),
            new_fields: Vec::new(),
            n_read: 0,
            n_rejected: 0,
            first_reject: None,
        })
    }
}
