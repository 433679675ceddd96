//! Rows through SQL on their way: what was staged of an object is input, what comes out is merged.
//!
//! The statement runs in the load's own transaction, by a function that is read-only (`transform.plpgsql.sql`). Rows whose
//! values it does not take become rejects, as those that the merge does not take.

mod columns;

use super::{
    LoadError,
    awaits::{Awaited, may_leave_out},
    catalog::{Misfit, Table, TableColumn, TableError, resolve_key},
    copied::Copied,
    early::Early,
    inspect::{self, RIGHTS, inspect},
    refused::{may_be_of_a_row, search},
    runs_as::RunsAs,
    sql::{self, LoadPlan, OF_ROWS, Origin, literal},
};
use crate::{
    config,
    database::{Begin, End, Lasts, savepoint, transaction},
};
use decode::OnNewField;
use service::words::chain;
use sqlx::{Executor, PgConnection};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// SQLSTATEs of a write where none may happen, and of an attempt to allow it.
const READ_ONLY: [&str; 2] = ["25006", "25001"];
/// SQLSTATE of a statement that was cancelled.
const CANCELLED: &str = "57014";

/// How long it is trusted that the same SQL still means what it did: functions may be replaced.
const INSPECTED_FOR: Duration = Duration::from_secs(600);

/// The SQL of a dataset, brought together with its table.
#[derive(Debug, Clone)]
pub struct Transform {
    /// The joins behind `input`.
    pub join: Option<String>,
    /// Which rows load.
    pub condition: Option<String>,
    /// Expressions by the catalog's name of their column.
    pub set: BTreeMap<String, String>,
    /// The columns of `input` that fields fill.
    pub columns: Vec<TableColumn>,
    /// The `search_path` of fragments.
    pub names: String,
    /// Whom it runs as.
    pub runs_as: RunsAs,
    /// Keys that rows name and that may arrive later.
    pub awaits: Vec<Awaited>,
    /// What of `where` is applied before rows are encoded.
    pub early: Early,
    /// Columns at the end of `columns` that are asked about and not sent on; all is done early then.
    pub unsent: Option<Vec<String>>,
    /// What COPY may judge; it is all there is to do then.
    pub copied: Option<Copied>,
    awaited_fields: BTreeSet<String>,
    /// Fields are read as other types than their columns'.
    is_typed: bool,
    fan_out: bool,
    timeout: i32,
    /// When an object's statements began, where those of one object share the timeout.
    begun: Option<Instant>,
    /// When Postgres was asked what it makes of the SQL.
    inspected: Option<Instant>,
}

impl Transform {
    /// Brings a dataset's SQL and its table together; none where it has none.
    ///
    /// # Errors
    /// [`TableError`]: of a column or type that does not exist, or of the database.
    pub async fn resolve(
        connection: &mut PgConnection,
        dataset: &config::Dataset,
        table: &Table,
    ) -> Result<Option<Self>, TableError> {
        let unusable = |error: anyhow::Error| TableError::unusable(Misfit::Other, chain(&error));
        let mut set = BTreeMap::new();
        for (column, sql) in &dataset.default_set {
            if let Some(column) = table.column(column) {
                set.insert(column.column.name.clone(), sql.clone());
            }
        }
        for (column, sql) in &dataset.set {
            let found = resolve_key(table, std::slice::from_ref(column));
            let column = found.map_err(|error| unusable(error.context("set")))?;
            set.extend(column.into_iter().map(|column| (column, sql.clone())));
        }
        if set.is_empty() && !dataset.transforms() {
            return Ok(None);
        }
        if dataset.on_new_field == OnNewField::AddColumn {
            let problem = "on_new_field = \"add_column\" is not for rows that go through SQL (set, or [defaults.set])";
            return Err(TableError::unusable(Misfit::Transform, problem));
        }
        let of_input = ["penstock_key", "penstock_bucket", "penstock_last_modified"];
        if let Some(column) = of_input.iter().find(|name| table.column(name).is_some()) {
            let problem = format!("its column {column} has the name of a field that `input` has of each object");
            return Err(TableError::unusable(Misfit::Transform, problem));
        }
        // Nothing of ours is hidden by a temporary table of the same name.
        let names = format!("pg_catalog, {}, pg_temp", table.schema);
        let declared = declared(connection, dataset, &names).await?;
        let (join, condition) = (dataset.join.clone(), dataset.condition.clone());
        let (fan_out, timeout) = (dataset.fan_out, dataset.timeout.0);
        let (columns, awaits) = (Vec::new(), Vec::new());
        let awaited_fields = dataset.awaits.iter().map(|awaits| awaits.field.clone()).collect();
        let runs_as = RunsAs::new(dataset.role.as_deref());
        let mut transform = Self {
            join,
            condition,
            set,
            columns,
            names,
            runs_as,
            awaits,
            early: Early::default(),
            unsent: None,
            copied: None,
            awaited_fields,
            is_typed: !dataset.input.is_empty(),
            fan_out,
            timeout,
            begun: None,
            inspected: None,
        };
        transform.columns = transform.input_columns(table, &declared);
        transform.awaits = Awaited::all(dataset, &transform.columns);
        let is_append = dataset.mode == config::Mode::Append;
        let key = resolve_key(table, &dataset.key).map_err(unusable)?;
        let sets_key = key.iter().any(|column| transform.sets(column));
        if !dataset.awaits.is_empty()
            && !table.lineage_object
            && (is_append || may_leave_out(connection, dataset, sets_key).await?)
        {
            let problem = format!(
                "awaits needs a column penstock_object bigint in {}: a later run may leave out rows that an earlier one \
                 made, and they would stay",
                dataset.table
            );
            return Err(TableError::unusable(Misfit::NoLineage, problem));
        }
        transform.early = Early::of(connection, dataset, table, &transform.columns).await?;
        transform.leave_out(table, &declared);
        Ok(Some(transform))
    }

    /// Returns whether rows go through SQL: not where all that is asked of them is asked before.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.unsent.is_none()
    }

    /// Asks Postgres what it makes of the SQL, unless that is known from not long `before`.
    ///
    /// # Errors
    /// [`TableError`]: what may not stand there, or of the database.
    pub async fn inspect(
        &mut self,
        connection: &mut PgConnection,
        table: &Table,
        keep: &[String],
        before: Option<(&Self, &Table)>,
    ) -> Result<(), TableError> {
        let runs_so = (&self.names, &self.runs_as);
        let same = before
            .filter(|(other, of)| (&other.names, &other.runs_as) == runs_so && other.pieces(of) == self.pieces(table));
        let same = same.filter(|(other, _)| other.inspected.is_some_and(|at| at.elapsed() < INSPECTED_FOR));
        (self.copied, self.inspected) = match same {
            Some((other, _)) => (other.copied.clone(), other.inspected),
            None => (inspect(connection, self, table, keep).await?, Some(Instant::now())),
        };
        Ok(())
    }

    /// Returns whether an expression fills this column.
    #[must_use]
    pub fn sets(&self, column: &str) -> bool {
        self.set.contains_key(column)
    }

    /// Makes rows of the staged ones, at most `allowed` of which are refused and become rejects of the object.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn run(
        &self,
        connection: &mut PgConnection,
        input: &LoadPlan<'_>,
        made: &LoadPlan<'_>,
        origin: &Origin<'_>,
        (object_id, allowed): (i64, u64),
    ) -> Result<Made, LoadError> {
        let begun = self.begun();
        let done = self.attempt(connection, input, made, origin).await?;
        let (mut n_made, mut n_refused, mut n_lost) = (0, 0, 0);
        let was_refused = done.is_err();
        match done {
            Ok(n_rows) => n_made = n_rows,
            Err(_) => {
                self.limit_from(connection, begun).await?;
                let ranged = input.transform(self, origin, made, OF_ROWS);
                let apart = self.run_apart(connection, input, &ranged, (object_id, allowed), begun).await;
                (n_refused, n_lost) = apart.map_err(|error| match error {
                    LoadError::Database(error) => self.sort(error, begun),
                    other => other,
                })?;
            }
        }
        self.limit(connection, Duration::ZERO).await?;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let mut n_with_any = n_made;
        if was_refused || self.join.is_some() {
            let counts = format!(
                "SELECT coalesce(sum(n), 0)::bigint, count(*) FROM (SELECT count(*) AS n FROM {} GROUP BY penstock_row) rows",
                made.staging
            );
            (n_made, n_with_any) = sqlx::query_as(&counts).fetch_one(connection).await?;
        }
        if self.join.is_none() {
            // Several with one number are a command's answers.
            n_with_any = n_made;
        }
        let (n_made, n_with_any) = (count(n_made), count(n_with_any));
        if n_made > n_with_any && !self.fan_out {
            return Err(LoadError::FanOut);
        }
        let n_added = n_made.saturating_sub(n_with_any);
        Ok(Made { n_made, n_added, n_refused: count(n_refused), n_lost: count(n_lost) })
    }

    /// Makes rows of the staged ones, all or none; the inner error is for the sake of one of them.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn attempt(
        &self,
        connection: &mut PgConnection,
        input: &LoadPlan<'_>,
        made: &LoadPlan<'_>,
        origin: &Origin<'_>,
    ) -> Result<Result<i64, sqlx::Error>, LoadError> {
        let begun = self.begun();
        self.limit_from(connection, begun).await?;
        let whole = input.transform(self, origin, made, sql::ALL);
        let is_of_a_row = |error: &sqlx::Error| self.may_be_of_a_row(error, made.staging);
        let done = savepoint(&mut *connection, Lasts::Work, is_of_a_row, async |connection| {
            sqlx::query_scalar::<_, i64>(&self.call("penstock_transform", "$1, $2"))
                .bind(&whole)
                .bind(&self.names)
                .fetch_one(connection)
                .await
        });
        let done = done.await.map_err(|error| self.sort(error, begun))?;
        self.limit(connection, Duration::ZERO).await?;
        Ok(done)
    }

    /// Runs a statement that looks at staged rows, as a transform runs; where it does not take the values of some rows, it
    /// is run without those, by the numbers that `by_rows` is for.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn look(
        &self,
        connection: &mut PgConnection,
        staging: &str,
        (whole, by_rows): (&str, &str),
        names: &str,
    ) -> Result<(), LoadError> {
        let begun = self.begun();
        self.limit_from(connection, begun).await?;
        let is_of_a_row = |error: &sqlx::Error| self.may_be_of_a_row(error, staging);
        let run = async |connection: &mut PgConnection| {
            let run = self.call("penstock_transform", "$1, $2");
            sqlx::query(&run).bind(whole).bind(names).execute(connection).await
        };
        let done = savepoint(&mut *connection, Lasts::Work, is_of_a_row, run).await;
        if done.map_err(|error| self.sort(error, begun))?.is_err() {
            self.limit_from(connection, begun).await?;
            connection.execute(index_of_rows(staging).as_str()).await.map_err(|error| self.sort(error, begun))?;
            self.limit_from(connection, begun).await?;
            let apart = self.call("penstock_of_taken_rows", "$1, $2, $3");
            let apart = sqlx::query(&apart).bind(by_rows).bind(names).bind(staging).execute(&mut *connection).await;
            apart.map_err(|error| self.sort(error, begun))?;
        }
        Ok(self.limit(connection, Duration::ZERO).await?)
    }

    /// Makes rows in ranges and keeps those that are refused as rejects, one of each row of the object; returns how many
    /// those are, and of how many staged rows.
    async fn run_apart(
        &self,
        connection: &mut PgConnection,
        input: &LoadPlan<'_>,
        ranged: &str,
        (object_id, allowed): (i64, u64),
        begun: Instant,
    ) -> Result<(i64, i64), LoadError> {
        let staging = input.staging;
        // Two objects of one transaction may come by here.
        let ready = format!("{}; DELETE FROM pg_temp.penstock_refused", index_of_rows(staging));
        connection.execute(ready.as_str()).await?;
        let last = format!("SELECT coalesce(max(penstock_row), 0) FROM {staging}");
        let last: i64 = sqlx::query_scalar(&last).fetch_one(&mut *connection).await?;
        let allowed = i64::try_from(allowed).unwrap_or(i64::MAX);
        self.limit_from(connection, begun).await?;
        search(connection, |never| {
            let never = literal(&format!("^({never}|{})", self.never().join("|")));
            let (staging, ranged, names) = (literal(staging), literal(ranged), literal(&self.names));
            self.call("penstock_transform_apart", &format!("{staging}, {ranged}, {names}, {last}, {allowed}, {never}"))
        })
        .await?;
        let keep = format!(
            "INSERT INTO penstock.reject (object_id, row_number, class, column_name, message, payload, payload_length, payload_form) \
             SELECT DISTINCT ON (r.penstock_row) $1, r.penstock_row, r.class, r.column_name, r.message, substring(whole.bytes FOR 65536), \
                    octet_length(whole.bytes), 'columns' \
             FROM pg_temp.penstock_refused r JOIN {staging} staged USING (penstock_row) \
             CROSS JOIN LATERAL (SELECT convert_to(({})::text, 'UTF8') AS bytes) whole",
            input.kept_row()
        );
        self.limit_from(connection, begun).await?;
        let n_refused = sqlx::query(&keep).bind(object_id).execute(&mut *connection).await?.rows_affected();
        let lost = "penstock_row IN (SELECT penstock_row FROM pg_temp.penstock_refused)";
        let lost = format!("SELECT count(*) FROM {staging} WHERE {lost}");
        let n_lost: i64 = sqlx::query_scalar(&lost).fetch_one(&mut *connection).await?;
        connection.execute("DROP INDEX pg_temp.penstock_input_row").await?;
        Ok((i64::try_from(n_refused).unwrap_or(i64::MAX), n_lost))
    }

    /// Returns the same for one object, all of whose statements share the timeout, which runs from now on.
    #[must_use]
    pub fn started(&self) -> Self {
        Self { begun: Some(Instant::now()), ..self.clone() }
    }

    fn begun(&self) -> Instant {
        self.begun.unwrap_or_else(Instant::now)
    }

    /// Returns the same without `where`.
    #[must_use]
    pub fn unconditional(&self) -> Self {
        Self { condition: None, ..self.clone() }
    }

    /// Returns codes that are no row's, beside those that never are: with a role, whatever a right is missing for.
    fn never(&self) -> Vec<&'static str> {
        let rights = self.runs_as.role().map(|_| RIGHTS);
        READ_ONLY.into_iter().chain(rights).collect()
    }

    fn may_be_of_a_row(&self, error: &sqlx::Error, staging: &str) -> bool {
        !code(error).is_some_and(|code| self.never().contains(&&*code)) && may_be_of_a_row(error, staging)
    }

    fn call(&self, function: &str, arguments: &str) -> String {
        format!("SELECT {}({arguments})", self.runs_as.function(function))
    }

    /// Bounds each statement by which others do the transform's work to its timeout.
    ///
    /// # Errors
    /// Of the database.
    pub async fn limit_each(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        self.limit(connection, Duration::from_secs(u64::try_from(self.timeout).unwrap_or(0))).await
    }

    /// Bounds statements to what is left of the timeout since `begun`.
    async fn limit_from(&self, connection: &mut PgConnection, begun: Instant) -> Result<(), LoadError> {
        let timeout = Duration::from_secs(u64::try_from(self.timeout).unwrap_or(0));
        match timeout.saturating_sub(begun.elapsed()) {
            Duration::ZERO => Err(LoadError::TransformTimeout(self.timeout)),
            left => Ok(self.limit(connection, left).await?),
        }
    }

    /// Bounds statements in time, to the millisecond that is not before it; zero: no bound.
    pub async fn limit(&self, connection: &mut PgConnection, time: Duration) -> sqlx::Result<()> {
        let limit = format!("SET LOCAL statement_timeout = {}", time.as_micros().div_ceil(1000));
        connection.execute(limit.as_str()).await.map(|_| ())
    }

    /// Tells what is the transform's fault from what is the database's.
    fn sort(&self, error: sqlx::Error, begun: Instant) -> LoadError {
        let is_late = begun.elapsed().as_secs_f64() >= f64::from(self.timeout);
        if is_late && is_cancelled(&error) {
            LoadError::TransformTimeout(self.timeout)
        } else if is_write(&error) {
            LoadError::Schema("the transform calls what writes, creates something, or leaves something behind".into())
        } else {
            LoadError::Database(error)
        }
    }
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(|error| error.code())
}

/// Returns whether a statement was cancelled, which is how one ends that takes too long.
pub fn is_cancelled(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code == CANCELLED)
}

fn is_write(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| READ_ONLY.contains(&code.as_ref()))
}

/// What became of rows that went through a transform.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// Rows that came out.
    pub n_made: u64,
    /// Of them, those beyond the first of one.
    pub n_added: u64,
    /// Rows of the object that became rejects.
    pub n_refused: u64,
    /// Rows that went in with those numbers: a command's answers.
    pub n_lost: u64,
}

impl Made {
    /// Returns how many of the rows that went in nothing came out of.
    #[must_use]
    pub fn n_dropped(&self, n_staged: u64) -> u64 {
        n_staged.saturating_sub(self.n_lost + self.n_made - self.n_added)
    }
}

/// Returns the columns that are declared with a type.
async fn declared(connection: &mut PgConnection, dataset: &config::Dataset, names: &str) -> Result<Table, TableError> {
    if dataset.input.is_empty() {
        return Ok(Table::default());
    }
    transaction(connection, Begin::Plainly, async |connection| {
        let declared = Table::of_types(connection, &dataset.input, names).await;
        // What is refused here leaves the session as it was.
        Ok(End::RollBack(declared.map_err(|error| match error {
            TableError::Database(error) => inspect::refused("input", error),
            other => other,
        })?))
    })
    .await
}

/// Returns what makes staged rows be found by their numbers.
fn index_of_rows(staging: &str) -> String {
    format!("CREATE INDEX IF NOT EXISTS penstock_input_row ON {staging} (penstock_row); ANALYZE {staging}")
}
