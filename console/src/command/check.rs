//! `console check`: whether the pages could be read, and would have what to show.

use crate::{
    auth::Doorman,
    config::Config,
    read::{Failure, Reader, now},
};
use service::{
    findings::Findings,
    postgres::{TransactionPooler, refuse_transaction_pooler},
};

/// Checks everything a run would need; changes nothing.
pub async fn check(config: &Config) -> Findings {
    let mut found = Findings::default();
    match Doorman::new(config.auth.as_ref()) {
        Ok(Doorman::Everybody) => found.fine("auth: whoever is on this machine may read"),
        Ok(Doorman::Passwords(passwords)) => found.fine(format!("auth: {passwords:?}")),
        Ok(Doorman::Proxy { header, address }) => found.fine(format!("auth: who {address} names in {header}")),
        Err(error) => found.wrong("auth", error, "`console password NAME` prints a line for it"),
    }
    let pooler = async { refuse_transaction_pooler(&config.database.server("penstock console check")?).await };
    if let Err(error) = pooler.await
        && error.is::<TransactionPooler>()
    {
        found.failed("database", &error, "give `database.url` the server's own address");
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
            Ok(()) => found.fine(format!("database: {what} can be read")),
            Err(failure) => {
                found.wrong("database", format_args!("{what}: {failure}"), remedy(&failure));
                if matches!(failure, Failure::Unreachable(_)) {
                    break;
                }
            }
        }
    }
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
