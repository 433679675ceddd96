//! Whom the SQL of a transform runs as: the session's own role, or another that has no more rights than it needs.
//!
//! Another role owns functions of its own, SECURITY DEFINER, so that what they run can neither use the session's rights nor
//! take them back: Postgres refuses to change the role within such a function. They are made as that role, since the right
//! to call them, which nobody else of the session is to have, is given by who owns them.

use super::{
    catalog::{Misfit, TableError},
    inspect,
    refused::{class, lacks, of_server},
    sql::quote,
};
use sha2::{Digest, Sha256};
use sqlx::{Executor, PgConnection};

/// The session's own role, or another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunsAs(Option<String>);

impl RunsAs {
    /// Returns this role, or without one the session's own.
    #[must_use]
    pub fn new(role: Option<&str>) -> Self {
        Self(role.map(str::to_owned))
    }

    /// Returns the other role's quoted name.
    #[must_use]
    pub fn role(&self) -> Option<String> {
        self.0.as_deref().map(quote)
    }

    /// Returns who that is, for people.
    #[must_use]
    pub fn described(&self) -> String {
        self.role().map_or_else(|| "the importer's role".to_owned(), |role| format!("role {role}"))
    }

    /// Returns the name of a function that runs so.
    #[must_use]
    pub fn function(&self, name: &str) -> String {
        format!("pg_temp.{name}{}", self.suffix())
    }

    /// Returns what ends names of functions; a role's own name may be too long for that.
    fn suffix(&self) -> String {
        let digest = self.0.as_deref().map(Sha256::digest);
        let digits = digest.iter().flatten().take(8).map(|byte| format!("{byte:02x}"));
        digest.map_or_else(String::new, |_| format!("_{}", digits.collect::<String>()))
    }

    /// Makes what a session needs to run transforms so, in a transaction or outside one.
    ///
    /// # Errors
    /// Of the database.
    pub async fn create(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let (mut begin, mut end) = (String::new(), String::new());
        if let Some(role) = self.role() {
            let own: String = sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut *connection).await?;
            let functions = [
                ("penstock_transform", "text, text"),
                ("penstock_transform_apart", "text, text, text, bigint, bigint, text"),
                ("penstock_of_taken_rows", "text, text, text"),
            ];
            let functions = functions.map(|(name, types)| format!("{}({types})", self.function(name))).join(", ");
            begin = format!("SET LOCAL ROLE {role};");
            end = format!(
                "REVOKE ALL ON FUNCTION {functions} FROM PUBLIC; GRANT EXECUTE ON FUNCTION {functions} TO {}; RESET ROLE; \
                 GRANT INSERT ON pg_temp.penstock_refused, pg_temp.penstock_missing TO {role};",
                quote(&own)
            );
        }
        let create = include_str!("transform.plpgsql.sql")
            .replace("{class}", &class())
            .replace("{of_server}", &of_server())
            .replace("{lacks}", &lacks())
            .replace("{of}", &self.suffix())
            .replace("{security}", if self.0.is_some() { "DEFINER" } else { "INVOKER" })
            .replace("{begin}", &begin)
            .replace("{end}", &end);
        connection.execute(create.as_str()).await?;
        Ok(())
    }

    /// Lets it read and fill a staging table.
    ///
    /// # Errors
    /// Of the database.
    pub async fn grant(&self, connection: &mut PgConnection, staging: &str) -> sqlx::Result<()> {
        if let Some(role) = self.role() {
            connection.execute(format!("GRANT SELECT, INSERT ON {staging} TO {role}").as_str()).await?;
        }
        Ok(())
    }

    /// Finds out whether another role can own its functions, and makes them. In a transaction that is rolled back.
    ///
    /// # Errors
    /// [`TableError`]: what is missing and who has to be given it, or of the database.
    pub async fn check(&self, connection: &mut PgConnection) -> Result<(), TableError> {
        let (Some(name), Some(role)) = (&self.0, self.role()) else { return Ok(()) };
        let found: Option<(String, bool, bool, String)> = sqlx::query_as(
            "SELECT current_user::text, pg_has_role(oid, 'MEMBER'), \
                    has_database_privilege(oid, current_database(), 'TEMPORARY'), current_database()::text \
             FROM pg_roles WHERE rolname = $1",
        )
        .persistent(false)
        .bind(name)
        .fetch_optional(&mut *connection)
        .await?;
        let problem = match found {
            None => format!("there is no such role: CREATE ROLE {role} NOLOGIN"),
            Some((own, false, ..)) => {
                format!("{own} is not a member of role {role}: GRANT {role} TO {}", quote(&own))
            }
            Some((_, _, false, database)) => format!(
                "role {role} may not own functions of a session: GRANT TEMPORARY ON DATABASE {} TO {role}",
                quote(&database)
            ),
            Some(_) => {
                return self.create(connection).await.map_err(|error| inspect::refused("role", error));
            }
        };
        Err(TableError::unusable(Misfit::Transform, format!("role: {problem}")))
    }
}
