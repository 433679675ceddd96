//! What Postgres's catalog says about a target table.

mod error;

pub use error::{Misfit, NoUniqueIndex, TableError};

use crate::{
    database::{Begin, End, transaction},
    ledger::in_ascii,
    load::{
        shorts::{Cuts, Types, n_bytes},
        sql::{ABSENT, literal, quote, quote_pair},
    },
};
use anyhow::Context;
use decode::{Column, EXTRAS_COLUMN, encode::PgType};
use sqlx::{Executor, PgConnection, Row};
use std::collections::BTreeMap;

/// Lineage columns, filled when the table has them and never taken from a file.
pub const LINEAGE_OBJECT: &str = "penstock_object";
/// See [`LINEAGE_OBJECT`].
pub const LINEAGE_ROW: &str = "penstock_row";
/// See [`LINEAGE_OBJECT`].
pub const LINEAGE_LOADED_AT: &str = "penstock_loaded_at";

/// A target table as the catalog describes it.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// `"schema"."name"`, quoted.
    pub qualified: String,
    /// `"schema"`, quoted.
    pub schema: String,
    /// Object id, for catalog queries and cache keys.
    pub oid: i64,
    /// Columns a file may fill: no generated and no lineage columns, in table order.
    pub columns: Vec<TableColumn>,
    /// Has `penstock_object bigint`.
    pub lineage_object: bool,
    /// Has `penstock_row bigint`.
    pub lineage_row: bool,
    /// Has `penstock_loaded_at`.
    pub lineage_loaded_at: bool,
    /// Is a view that rows go through into the table behind it.
    pub is_view: bool,
    /// Has rules, which INSERT follows and COPY does not.
    pub has_rules: bool,
    /// A row that is equal may be left out of an upsert: no trigger would have seen it, no child table has it.
    pub may_skip_equal: bool,
    /// Has BEFORE ROW triggers, which may leave rows out.
    pub may_drop_rows: bool,
    /// Has inheritance children, whose rows its indexes know nothing of.
    pub has_children: bool,
    /// The database's encoding has every character there is.
    pub takes_any_text: bool,
}

/// A fillable column with what the merge must know beyond [`Column`].
#[derive(Debug, Clone)]
pub struct TableColumn {
    /// What the decoder sees.
    pub column: Column,
    /// Type with its modifier, as SQL.
    pub type_sql: String,
    /// Type a text is cast to before Postgres assigns it to the column: without domains, and without a length,
    /// which an explicit cast would cut the value to where an assignment refuses it.
    pub cast_sql: String,
    /// The type is a domain.
    pub is_domain: bool,
    /// No assignment follows the cast that would hold it to its domain, so the cast has to.
    pub as_declared: bool,
    /// ` COLLATE …` where the column's collation is not its type's own, else empty.
    pub collate_sql: String,
    /// The default's expression; an absent JSON field takes it.
    pub default_sql: Option<String>,
    /// `GENERATED ALWAYS AS IDENTITY`: inserted with OVERRIDING SYSTEM VALUE, never updated.
    pub identity_always: bool,
    /// Object id of the type.
    pub type_oid: i64,
    /// Where the type, made from a text, would cut it.
    pub cuts: Option<Cuts>,
    /// The type has an `=` that means equal, which those without an order of their own may not have (json, xml,
    /// jsonpath, the geometric types); they are compared as texts.
    pub comparable: bool,
    /// The operators by which the type's values are told apart and ordered.
    pub operators: Operators,
}

/// Operators of a type's default order, as SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operators {
    /// Equal.
    pub equal: String,
    /// Less than.
    pub less: String,
    /// They are an extension's or a user's, so that IS DISTINCT FROM would look for another `=`.
    pub foreign: bool,
}

impl Default for Operators {
    /// What `pg_catalog` calls so, which is where a session looks.
    fn default() -> Self {
        Self { equal: "=".into(), less: "<".into(), foreign: false }
    }
}

impl Operators {
    /// Returns operators of another schema.
    fn of_schema(schema: &str, equal: &str, less: &str) -> Self {
        let named = |operator: &str| format!("OPERATOR({}.{operator})", quote(schema));
        Self { equal: named(equal), less: named(less), foreign: true }
    }

    /// Returns the condition under which two values are not the same; NULL is the same as NULL.
    #[must_use]
    pub fn distinct(&self, a: &str, b: &str) -> String {
        if self.foreign {
            return format!("NOT coalesce({a} {} {b}, {a} IS NULL AND {b} IS NULL)", self.equal);
        }
        format!("{a} IS DISTINCT FROM {b}")
    }
}

impl TableColumn {
    /// Returns a value of this type, of one that it can be read from.
    #[must_use]
    pub fn read_from(&self, value: &str) -> String {
        let Self { type_sql, cast_sql, collate_sql, .. } = self;
        if self.as_declared {
            // A cast to a domain cuts what is longer than its base; its input function, which reads the elements of an
            // array, refuses.
            return format!("(ARRAY[{value}]::text::{type_sql}[])[1]{collate_sql}");
        }
        format!("{value}::{cast_sql}{collate_sql}")
    }

    /// Returns a column that exists in staging only.
    #[must_use]
    pub fn staged_only(column: Column, type_sql: &str) -> Self {
        Self {
            column,
            type_sql: type_sql.to_owned(),
            cast_sql: type_sql.to_owned(),
            is_domain: false,
            as_declared: false,
            collate_sql: String::new(),
            default_sql: None,
            identity_always: false,
            type_oid: 0,
            cuts: None,
            comparable: false,
            operators: Operators::default(),
        }
    }
}

impl Table {
    /// Returns the object id of the table `name` (`schema.table`, as in the config).
    ///
    /// The name is tried as it is written, then as Postgres itself would read it by the role's own `search_path`.
    /// Must be called outside a transaction.
    ///
    /// # Errors
    /// [`TableError::Unusable`] when there is no such table.
    pub async fn find(connection: &mut PgConnection, name: &str) -> Result<i64, TableError> {
        let (schema, bare) = match name.split_once('.') {
            Some((schema, bare)) => (Some(schema), bare),
            None => (None, name),
        };
        let exact = "SELECT c.oid::bigint FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                     WHERE n.nspname = $1 AND c.relname = $2";
        let exact = sqlx::query_scalar(exact).bind(schema).bind(bare).fetch_optional(&mut *connection).await?;
        match exact {
            Some(oid) => Ok(oid),
            None => find_as_the_role(connection, name, schema.is_none()).await,
        }
    }

    /// Reads the table `name`, as [`Self::find`] finds it, from the catalog.
    ///
    /// # Errors
    /// [`TableError::Unusable`] when there is no such table, or it is under row-level security, or a view that rows do not
    /// go through.
    pub async fn read(connection: &mut PgConnection, name: &str) -> Result<Self, TableError> {
        let oid = Self::find(connection, name).await?;
        let row = sqlx::query(include_str!("read_table.sql")).bind(oid).fetch_optional(&mut *connection).await?;
        let Some(row) = row else {
            return Err(TableError::unusable(Misfit::Missing, format!("table {name} does not exist")));
        };
        let kind: String = row.try_get("kind")?;
        let is_view = kind == "v";
        let problem = match kind.as_str() {
            "r" | "p" => None,
            "v" if !row.try_get::<bool, _>("inserts_through")? => {
                Some(format!("{name} is a view that Postgres does not put rows through by itself"))
            }
            "v" if row.try_get("hides_rows")? => Some(format!(
                "{name} is a view that may hide a row it took; WITH CASCADED CHECK OPTION refuses such rows"
            )),
            "v" => None,
            _ => Some(format!("{name} is not a table (relkind {kind})")),
        };
        if let Some(problem) = problem {
            return Err(TableError::unusable(Misfit::NotATable, problem));
        }
        if row.try_get::<bool, _>("row_security")? {
            return Err(TableError::unusable(
                Misfit::RowSecurity,
                format!("table {name} is under row-level security for this role"),
            ));
        }
        let mut table = Self {
            qualified: quote_pair(row.try_get("schema")?, row.try_get("name")?),
            schema: quote(row.try_get("schema")?),
            oid: row.try_get("oid")?,
            is_view,
            has_rules: row.try_get("has_rules")?,
            may_skip_equal: row.try_get("may_skip_equal")?,
            may_drop_rows: row.try_get("may_drop_rows")?,
            has_children: row.try_get("has_children")?,
            takes_any_text: row.try_get("takes_any_text")?,
            ..Self::default()
        };
        table.read_columns(connection, name).await?;
        Ok(table)
    }

    /// Returns what the catalog says of columns with these names and types, as SQL, in a transaction.
    ///
    /// # Errors
    /// Of the database, also when there is no such type.
    pub async fn of_types(
        connection: &mut PgConnection,
        types: &BTreeMap<String, String>,
        names: &str,
    ) -> Result<Self, TableError> {
        let nulls = types.iter().map(|(name, sql)| format!("CAST(NULL AS {sql}\n) AS {}", quote(name)));
        let create = format!("CREATE TEMP VIEW penstock_input AS SELECT {}", nulls.collect::<Vec<_>>().join(", "));
        connection.execute(format!("SET LOCAL search_path = {names}").as_str()).await?;
        // Prepared, which no second statement can be.
        sqlx::query(&create).persistent(false).execute(&mut *connection).await?;
        connection.execute("SET LOCAL search_path = pg_catalog").await?;
        let oid = "SELECT 'pg_temp.penstock_input'::regclass::oid::bigint";
        let mut table = Self { oid: sqlx::query_scalar(oid).fetch_one(&mut *connection).await?, ..Self::default() };
        table.read_columns(connection, "input").await?;
        for column in &mut table.columns {
            column.as_declared = column.is_domain;
        }
        Ok(table)
    }

    async fn read_columns(&mut self, connection: &mut PgConnection, name: &str) -> Result<(), TableError> {
        let rows = sqlx::query(include_str!("read_columns.sql")).bind(self.oid).fetch_all(&mut *connection).await?;
        for row in rows {
            self.add_column(&row, name)?;
        }
        self.look_for_cuts(connection).await
    }

    /// Finds out which columns that texts are cast for would cut them. Of scalars and arrays the encoder knows.
    async fn look_for_cuts(&mut self, connection: &mut PgConnection) -> Result<(), TableError> {
        if self.columns.iter().all(|column| column.column.pg_type != PgType::Cast) {
            return Ok(());
        }
        let rows = sqlx::query_as(include_str!("read_types.sql")).bind(self.oid).fetch_all(connection).await?;
        let types: Types = rows.into_iter().map(|(oid, kind, parts)| (oid, (kind, parts))).collect();
        for column in self.columns.iter_mut().filter(|column| column.column.pg_type == PgType::Cast) {
            column.cuts = Cuts::of(column.type_oid, &types);
        }
        Ok(())
    }

    fn add_column(&mut self, row: &sqlx::postgres::PgRow, table: &str) -> Result<(), TableError> {
        let name: String = row.try_get("name")?;
        let type_oid: i64 = row.try_get("type_oid")?;
        if self.is_view && !row.try_get::<bool, _>("is_written_through")? {
            return Ok(());
        }
        match name.as_str() {
            LINEAGE_OBJECT | LINEAGE_ROW if type_oid != 20 => {
                return Err(TableError::unusable(
                    Misfit::LineageType,
                    format!("column {name} of {table} must be bigint"),
                ));
            }
            _ if name.starts_with(ABSENT) || name == EXTRAS_COLUMN => {
                return Err(TableError::unusable(
                    Misfit::Other,
                    format!("column {name} of {table} has a name that staging needs"),
                ));
            }
            LINEAGE_OBJECT => self.lineage_object = true,
            LINEAGE_ROW => self.lineage_row = true,
            LINEAGE_LOADED_AT => self.lineage_loaded_at = true,
            _ => {
                if row.try_get::<String, _>("generated")?.is_empty() {
                    self.columns.push(table_column(row, name, type_oid, &self.qualified)?);
                }
            }
        }
        Ok(())
    }

    /// Returns the column with this name: exactly, else without regard to case where that is unique.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        if let Some(exact) = self.columns.iter().find(|c| c.column.name == name) {
            return Some(exact);
        }
        let folded = name.to_lowercase();
        let mut alike = self.columns.iter().filter(|c| c.column.name.to_lowercase() == folded);
        match (alike.next(), alike.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// Returns text that is to be kept in the table's database: in characters that every encoding has, where this one
    /// has not all. The names of columns it has.
    #[must_use]
    pub fn storable(&self, text: &str) -> String {
        if self.takes_any_text || self.column(text).is_some() { text.to_owned() } else { in_ascii(text) }
    }
}

/// Finds a table as Postgres itself reads its name, by the role's own `search_path`, which this session gave up.
async fn find_as_the_role(connection: &mut PgConnection, name: &str, is_bare: bool) -> Result<i64, TableError> {
    // Nothing here is looked for in that path but the table.
    let look = "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid::pg_catalog.int8, \
                pg_catalog.current_setting('search_path')";
    // That a name is invalid is an answer, too.
    let found = transaction(connection, Begin::RolesSearchPath, async |connection| {
        Ok::<_, sqlx::Error>(End::RollBack(sqlx::query_as(look).bind(name).fetch_one(connection).await))
    });
    match found.await? {
        Ok((Some(oid), _)) => Ok(oid),
        Ok((None, path)) => {
            let path: String = path;
            let there = if is_bare { format!(" in this role's search_path ({path})") } else { String::new() };
            Err(TableError::unusable(Misfit::Missing, format!("table {name} does not exist{there}")))
        }
        // to_regclass refuses what is no name at all.
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("42")) => {
            Err(TableError::unusable(Misfit::Other, format!("table {name}: {}", error.message())))
        }
        Err(error) => Err(error.into()),
    }
}

fn table_column(
    row: &sqlx::postgres::PgRow,
    name: String,
    type_oid: i64,
    qualified_table: &str,
) -> Result<TableColumn, sqlx::Error> {
    let typmod: i32 = row.try_get("typmod")?;
    let element_oid: i64 = row.try_get("element_oid")?;
    let is_array: bool = row.try_get("is_array")?;
    let identity: String = row.try_get("identity")?;
    let mut default_sql: Option<String> = row.try_get("default_sql")?;
    if !identity.is_empty() {
        default_sql =
            Some(format!("nextval(pg_get_serial_sequence({}, {}))", literal(qualified_table), literal(&name)));
    }
    let base_oid: i64 = row.try_get("base_oid")?;
    let pg_type = if let Some(n_bytes) = n_bytes(base_oid) {
        PgType::Short(n_bytes)
    } else if is_array {
        match scalar(element_oid, typmod) {
            PgType::Cast => PgType::Cast,
            element => PgType::Array(Box::new(element), u32::try_from(element_oid).unwrap_or(0)),
        }
    } else {
        scalar(type_oid, typmod)
    };
    let not_null: bool = row.try_get("not_null")?;
    Ok(TableColumn {
        column: Column { name, pg_type, not_null, has_default: default_sql.is_some() },
        type_sql: row.try_get("type_sql")?,
        cast_sql: row.try_get("cast_sql")?,
        is_domain: type_oid != base_oid,
        as_declared: false,
        collate_sql: row
            .try_get::<Option<String>, _>("collation_schema")?
            .zip(row.try_get::<Option<String>, _>("collation_name")?)
            .map(|(schema, collation)| format!(" COLLATE {}.{}", quote(&schema), quote(&collation)))
            .unwrap_or_default(),
        default_sql,
        identity_always: identity == "a",
        type_oid,
        cuts: None,
        comparable: row.try_get("comparable")?,
        operators: operators(row)?,
    })
}

fn operators(row: &sqlx::postgres::PgRow) -> Result<Operators, sqlx::Error> {
    let Some(schema) = row.try_get::<Option<String>, _>("operator_schema")? else { return Ok(Operators::default()) };
    Ok(Operators::of_schema(&schema, row.try_get("equal_operator")?, row.try_get("less_operator")?))
}

/// Returns how a scalar type travels. OIDs of built-in types are fixed (`pg_type.dat`).
fn scalar(oid: i64, typmod: i32) -> PgType {
    let limit = || u32::try_from(typmod - 4).ok();
    match oid {
        16 => PgType::Bool,
        21 => PgType::Int2,
        23 => PgType::Int4,
        20 => PgType::Int8,
        700 => PgType::Float4,
        701 => PgType::Float8,
        1700 => PgType::Numeric(numeric_modifier(typmod)),
        25 => PgType::Text(None),
        1043 | 1042 => PgType::Text(limit()),
        17 => PgType::Bytea,
        1082 => PgType::Date,
        1083 => PgType::Time,
        1114 => PgType::Timestamp,
        1184 => PgType::TimestampTz,
        2950 => PgType::Uuid,
        114 => PgType::Json,
        3802 => PgType::Jsonb,
        _ => n_bytes(oid).map_or(PgType::Cast, PgType::Short),
    }
}

/// Returns precision and scale (11 bits, signed since Postgres 15: `numeric.c`, `numeric_typmod_scale`).
fn numeric_modifier(typmod: i32) -> Option<(u16, i16)> {
    let packed = typmod.checked_sub(4).filter(|_| typmod >= 4)?;
    let precision = u16::try_from((packed >> 16) & 0xffff).ok()?;
    let scale = i16::try_from(((packed & 0x7ff) ^ 1024) - 1024).ok()?;
    Some((precision, scale))
}

/// Returns the key's columns as the catalog names them.
///
/// # Errors
/// A sentence naming the key column the table does not have.
pub fn resolve_key(table: &Table, key: &[String]) -> anyhow::Result<Vec<String>> {
    key.iter()
        .map(|name| {
            let column =
                table.column(name).with_context(|| format!("key column {name} is not in {}", table.qualified))?;
            Ok(column.column.name.clone())
        })
        .collect()
}

/// Returns the key in the order of its unique index, so that rows sorted by it come as the index wants them; none where
/// there is no such index.
///
/// # Errors
/// Of the database.
pub async fn in_index_order(
    connection: &mut PgConnection,
    table: &Table,
    key: &[String],
) -> sqlx::Result<Option<Vec<String>>> {
    sqlx::query_scalar(&unique_index("$1", "$2")).bind(table.oid).bind(key).fetch_optional(connection).await
}

/// Returns the query for a key's unique index.
pub fn unique_index(table: &str, key: &str) -> String {
    include_str!("unique_index.sql").replace("{table}", table).replace("{key}", key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_modifiers_are_unpacked() {
        // numeric(10,2) is ((10 << 16) | 2) + 4.
        assert_eq!(numeric_modifier(((10 << 16) | 2) + 4), Some((10, 2)));
        assert_eq!(numeric_modifier(((3 << 16) | (-2i32 & 0x7ff)) + 4), Some((3, -2)));
        assert_eq!(numeric_modifier(-1), None);
    }
}
