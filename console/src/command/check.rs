//! `console check`: whether the pages could be read, and would have what to show.

use crate::{
    auth::Doorman,
    config::{self, Config},
    read::{Failure, Reader, now, reports},
    report::{Asked, Listed, list},
};
use chrono::Utc;
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
    if let Some(config) = &config.reports {
        check_reports(config, &mut found).await;
    }
    found
}

/// Checks who runs reports, and prepares each.
async fn check_reports(config: &config::Reports, found: &mut Findings) {
    let reader = reports::reader(config.database.clone());
    let login = match reports::login(&reader).await {
        Ok(login) => login,
        Err(failure) => {
            let next = "check `reports.database_url` (or REPORTS_DATABASE_URL), and that the server lets this login in";
            return found.wrong("reports", failure, next);
        }
    };
    let name = &login.name;
    let may = if login.is_superuser { Some("all".to_owned()) } else { login.writable };
    match may {
        None => found.fine(format!("reports: run as {name}, which may write to no table")),
        Some(what) => found.warn(
            "reports",
            format_args!("{name}, as whom they run, may write to {what}; only the transaction keeps them from it"),
            "give them a login that may read what they show and nothing else",
        ),
    }
    let listed = match list(&config.directory) {
        Ok(listed) => listed,
        Err(wrong) => return found.wrong("reports", wrong, "make the directory, or name another"),
    };
    for Listed { name, report } in listed {
        let report = match report {
            Ok(report) => report,
            Err(wrong) => {
                for line in wrong.0 {
                    found.wrong("reports", line, "mend the file");
                }
                continue;
            }
        };
        // A default is what it must be, or the file would not have been read.
        let values = Asked::of(&report.parameters, &[], Utc::now()).values.unwrap_or_default();
        let undrawable = |columns: Vec<_>| report.undrawable(&columns).map(Failure::Report);
        match reports::prepare(&reader, &report, &values).await.map(undrawable) {
            Ok(None) => found.fine(format!("reports: {name} can be run")),
            Ok(Some(failure)) | Err(failure) => found.wrong("reports", failure, "mend the file, or what it needs"),
        }
    }
}

fn remedy(failure: &Failure) -> &'static str {
    match failure {
        Failure::Unreachable(_) => {
            "check that `database.url` (or DATABASE_URL) is right, that the server runs, and that it lets this host in"
        }
        Failure::Behind => "run it as the owner",
        Failure::Denied(_) => "run infra/postgres/roles.sql and grants.sql, and sign in as penstock_reader",
        Failure::Slow | Failure::Refused(_) | Failure::Report(_) => "try again, and look at the server's log",
    }
}
