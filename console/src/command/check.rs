//! `console check`: whether the pages could be read, and would have what to show.

use crate::{
    auth::Doorman,
    config::Config,
    read::{Failure, Reader, now},
};
use service::{
    postgres::{TransactionPooler, refuse_transaction_pooler},
    terminal,
};
use std::fmt::Write as _;

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// A line each.
    pub text: String,
    /// Whether something must be fixed before the pages can be read.
    pub is_wrong: bool,
}

impl Findings {
    fn ok(&mut self, line: &str) {
        self.line(&format!("ok      {line}"));
    }

    fn wrong(&mut self, what: &str, next: &str) {
        self.is_wrong = true;
        self.line(&format!("wrong   {what}; {next}"));
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "{}", terminal::line(text));
    }
}

/// Checks everything a run would need; changes nothing.
pub async fn check(config: &Config) -> Findings {
    let mut found = Findings::default();
    match Doorman::new(config.auth.as_ref()) {
        Ok(Doorman::Everybody) => found.ok("auth: whoever is on this machine may read"),
        Ok(Doorman::Passwords(passwords)) => found.ok(&format!("auth: {passwords:?}")),
        Ok(Doorman::Proxy { header, address }) => found.ok(&format!("auth: who {address} names in {header}")),
        Err(error) => found.wrong(&error.to_string(), "`console password NAME` prints a line for it"),
    }
    let pooler = async { refuse_transaction_pooler(&config.database.server("penstock console check")?).await };
    if let Err(error) = pooler.await
        && error.is::<TransactionPooler>()
    {
        found.wrong(&format!("database: {error:#}"), "give `database.url` the server's own address");
        return found;
    }
    let reader = Reader::new(config.database.clone(), config.show_values);
    for (what, seen) in [
        ("pools and decisions", now::pools(&reader).await.map(drop)),
        ("datasets", now::datasets(&reader).await.map(drop)),
        ("problems", now::problems(&reader).await.map(drop)),
        ("the server's load", now::server(&reader).await.map(drop)),
    ] {
        match seen {
            Ok(()) => found.ok(&format!("database: {what} can be read")),
            Err(failure) => {
                found.wrong(&format!("database: {what}: {failure}"), remedy(&failure));
                if matches!(failure, Failure::Unreachable(_)) {
                    break;
                }
            }
        }
    }
    let next = match found.is_wrong {
        true => "fix the lines marked `wrong`, then run `console check` again",
        false => "start `console run`",
    };
    found.line(&format!("next    {next}"));
    found
}

fn remedy(failure: &Failure) -> &'static str {
    match failure {
        Failure::Unreachable(_) => {
            "check that `database.url` (or DATABASE_URL) is right, that the server runs, and that it lets this host in"
        }
        Failure::Behind => "run it as the owner",
        Failure::Denied(_) => "run infra/postgres/roles.sql and grants.sql, and sign in as penstock_reader",
        Failure::Slow | Failure::Refused(_) => "try again, and look at the server's log",
    }
}
