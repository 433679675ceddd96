//! `where` judged by the COPY that writes into the target: the parts that are Postgres's to judge, where they call only
//! what is built in, for nothing makes a COPY read-only.

use super::{catalog::Table, sql::StagedColumn, transform::Transform};
use crate::database::{Lasts, savepoint};
use sqlx::{Executor, PgConnection};

/// A condition that COPY may judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// It, over the table's columns.
    condition: String,
    /// The columns it is about.
    columns: Vec<String>,
}

impl Copied {
    /// Returns what of a transform COPY may judge, where that is all it does.
    /// In a transaction that is rolled back, under the transform's `search_path`.
    ///
    /// # Errors
    /// Of the database.
    pub async fn find(
        connection: &mut PgConnection,
        transform: &Transform,
        table: &Table,
    ) -> sqlx::Result<Option<Self>> {
        let Some(condition) = transform.late_condition(table) else { return Ok(None) };
        let names = ["pg_temp.penstock_of_transform", "pg_temp.penstock_of_session"];
        let [transforms, sessions] = names.map(|name| {
            format!("CREATE TEMP VIEW {name} AS SELECT 1 AS one FROM {} WHERE {condition}", table.qualified)
        });
        let views = format!("{transforms}; SET LOCAL search_path = pg_catalog; {sessions}");
        let never = |error: &sqlx::Error| error.as_database_error().is_some();
        let looked = savepoint(connection, Lasts::Transaction, never, async |connection| {
            connection.execute(views.as_str()).await?;
            sqlx::query_scalar::<_, Option<Vec<String>>>(include_str!("copied.sql"))
                .bind(names[0])
                .bind(names[1])
                .bind(table.oid)
                .fetch_one(connection)
                .await
        });
        let Ok(Some(columns)) = looked.await? else { return Ok(None) };
        let is_field = |name: &String| transform.columns.iter().any(|column| column.column.name == *name);
        Ok(columns.iter().all(is_field).then_some(Self { condition, columns }))
    }

    /// Returns it as the end of a COPY.
    #[must_use]
    pub fn clause(&self) -> String {
        format!(" WHERE {}", self.condition)
    }

    /// Returns whether it is about columns only that rows are copied with: of `columns`, but those at the places `without`.
    /// For one that is not named COPY would take the default, for what is NULL.
    #[must_use]
    pub fn has_all(&self, columns: &[StagedColumn], without: &[usize]) -> bool {
        let is_copied = |name: &String| {
            let place = columns.iter().position(|column| column.target.column.name == *name);
            place.is_some_and(|place| !without.contains(&place))
        };
        self.columns.iter().all(is_copied)
    }
}
