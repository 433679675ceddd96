//! What is broken: problems rather than log lines, each with what mends it.

use super::PoolNow;
use crate::{
    read::{Failure, Reader, values},
    shell,
};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// More are not counted.
const MOST_COUNTED: i64 = 1000;

/// Groups that are shown; more kinds of failure at once are one problem.
const MOST_GROUPS: i64 = 60;

/// What kind of problem it is, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The database cannot be reached.
    NoDatabase,
    /// Sessions wait for a lock that somebody holds.
    Locked,
    /// No scaler decides.
    NoScaler,
    /// A queue does not tell its counters.
    QueueUnreadable,
    /// A pool is as large as it may be, and a message is late.
    AtMax,
    /// A message is late, and the pool is not as large as it may be.
    Late,
    /// A pool is held back, or its workers do not come up.
    PoolStuck,
    /// Workers without a heartbeat.
    WorkersSilent,
    /// Objects failed for good.
    Failed,
    /// Objects that are tried again.
    Held,
    /// Objects that are being imported for long.
    Slow,
    /// Rows that were rejected.
    Rejected,
    /// What could not be sent.
    Unsent,
}

/// One object of those concerned.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// `object_status.id`.
    pub object_id: i64,
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
}

/// One problem.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// Of what kind.
    pub kind: Kind,
    /// Whose: a dataset, a pool, or where something is sent.
    pub of: Option<String>,
    /// Why, in a word.
    pub reason: Option<String>,
    /// The column, of rejected rows.
    pub column: Option<String>,
    /// How many.
    pub n: i64,
    /// Whether there are more, which were not counted.
    pub more: bool,
    /// What is counted.
    pub unit: &'static str,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// When it happened last.
    pub latest: Option<DateTime<Utc>>,
    /// What was said of one of them.
    pub said: Option<String>,
    /// One of them.
    pub sample: Option<Sample>,
    /// What to do first.
    pub advice: String,
    /// What to type then.
    pub command: Option<String>,
}

impl Problem {
    fn new(kind: Kind, of: Option<String>, n: i64, unit: &'static str) -> Self {
        let (reason, column, since, latest, said, sample) = (None, None, None, None, None, None);
        Self {
            kind,
            of,
            reason,
            column,
            n,
            more: false,
            unit,
            since,
            latest,
            said,
            sample,
            advice: String::new(),
            command: None,
        }
    }
}

struct Group {
    kind: String,
    dataset: String,
    reason: String,
    column_name: String,
    n_objects: i64,
    n: i64,
    since: DateTime<Utc>,
    latest: DateTime<Utc>,
    bucket: Option<String>,
    key: Option<String>,
    object_id: i64,
    said: Option<String>,
}
service::from_row!(Group {
    kind,
    dataset,
    reason,
    column_name,
    n_objects,
    n,
    since,
    latest,
    bucket,
    key,
    object_id,
    said
});

struct Held {
    dataset: String,
    state: String,
    reason: String,
    n: i64,
    since: Option<DateTime<Utc>>,
    latest: Option<DateTime<Utc>>,
    object_id: i64,
    bucket: String,
    key: String,
    said: Option<String>,
}
service::from_row!(Held { dataset, state, reason, n, since, latest, object_id, bucket, key, said });

struct Lock {
    pid: i32,
    role: String,
    application: String,
    doing: String,
    n: i64,
    since: Option<DateTime<Utc>>,
    relation: Option<String>,
}
service::from_row!(Lock { pid, role, application, doing, n, since, relation });

struct Unsent {
    kind: String,
    target: String,
    n: i64,
    since: DateTime<Utc>,
    attempts: i32,
    said: Option<String>,
}
service::from_row!(Unsent { kind, target, n, since, attempts, said });

/// Returns what the ledger and the server know to be wrong, the most urgent first.
///
/// # Errors
/// As [`Reader::read`].
pub async fn problems(reader: &Reader) -> Result<Vec<Problem>, Failure> {
    let query = async |connection: &mut sqlx::PgConnection| {
        let groups =
            sqlx::query_as(include_str!("problems.sql")).bind(None::<&str>).bind(None::<&str>).bind(MOST_GROUPS);
        let groups: Vec<Group> = groups.fetch_all(&mut *connection).await?;
        let held: Vec<Held> = sqlx::query_as(include_str!("held.sql")).fetch_all(&mut *connection).await?;
        let locks: Vec<Lock> = sqlx::query_as(include_str!("locks.sql")).fetch_all(&mut *connection).await?;
        let unsent: Vec<Unsent> = sqlx::query_as(include_str!("due.sql")).fetch_all(&mut *connection).await?;
        let silent: (i64, Option<DateTime<Utc>>) = sqlx::query_as(
            "SELECT count(*), min(heartbeat_at) FROM penstock.workers \
                            WHERE heartbeat_at < clock_timestamp() - interval '1 minute'",
        )
        .fetch_one(connection)
        .await?;
        Ok((groups, held, locks, unsent, silent))
    };
    let (groups, held, locks, unsent, (n_silent, since)) = reader.read(query).await?;
    let may_show = reader.shows_values();
    let mut problems: Vec<Problem> = groups.into_iter().map(|group| of_group(group, may_show)).collect();
    problems.extend(held.into_iter().map(|held| of_held(held, may_show)));
    problems.extend(locks.into_iter().map(of_lock));
    problems.extend(unsent.into_iter().map(of_unsent));
    if n_silent > 0 {
        problems.push(Problem {
            since,
            advice: "They crashed, stand still, or cannot reach Postgres. Their messages come back to others by \
                     themselves. Which they are:"
                .into(),
            command: Some(
                "psql \"$DATABASE_URL\" -c 'SELECT id, host, now() - heartbeat_at AS silent FROM penstock.workers \
                 ORDER BY heartbeat_at'"
                    .into(),
            ),
            ..Problem::new(Kind::WorkersSilent, None, n_silent, "workers")
        });
    }
    sort(&mut problems);
    Ok(problems)
}

/// Returns what is gathered beside the ledger, of a kind or a dataset only where one is named.
///
/// # Errors
/// As [`Reader::read`].
pub async fn gathered(reader: &Reader, kind: Option<&str>, dataset: Option<&str>) -> Result<Vec<Problem>, Failure> {
    let query = async |connection: &mut sqlx::PgConnection| {
        let groups = sqlx::query_as(include_str!("problems.sql")).bind(kind).bind(dataset).bind(MOST_GROUPS);
        groups.fetch_all(connection).await
    };
    let groups: Vec<Group> = reader.read(query).await?;
    let may_show = reader.shows_values();
    Ok(groups.into_iter().map(|group| of_group(group, may_show)).collect())
}

/// Puts the most urgent first.
pub fn sort(problems: &mut [Problem]) {
    problems.sort_by(|a, b| a.kind.cmp(&b.kind).then(b.latest.cmp(&a.latest)));
}

fn of_group(group: Group, may_show: bool) -> Problem {
    let sample = match (group.bucket, group.key) {
        (Some(bucket), Some(key)) => Some(Sample { object_id: group.object_id, bucket, key }),
        _ => None,
    };
    let only = sample.as_ref().filter(|_| group.n_objects == 1);
    let address = only.map(|sample| shell::quoted(&shell::address(&sample.bucket, &sample.key)));
    let is_local =
        sample.as_ref().is_some_and(|sample| !shell::address(&sample.bucket, &sample.key).starts_with("s3://"));
    let is_failed = group.kind == "failed";
    let said = group.said.as_deref().and_then(|said| match is_failed {
        true => Some(values::of_object(Some(&group.reason), said, may_show)),
        false => values::of_row(said, may_show),
    });
    let (advice, command) = match (is_failed, group.dataset.as_str()) {
        (true, "") if group.reason == "unrouted" && !is_local => {
            (advice(&group.reason), "importer redrive --reason unrouted".to_owned())
        }
        (true, "") => (advice(&group.reason), "importer status --state failed".to_owned()),
        (true, _) if is_local => {
            (advice(&group.reason), format!("importer load {}", address.unwrap_or_else(|| "FILE".into())))
        }
        (true, dataset) => {
            let prefix = address.map(|address| format!(" --prefix {address}")).unwrap_or_default();
            (
                advice(&group.reason),
                format!("importer replay --state failed --dataset {}{prefix}", shell::quoted(dataset)),
            )
        }
        (false, _) => {
            let object = address.map(|address| format!(" {address}")).unwrap_or_default();
            (
                "Mend the table or the producer, then give the rows their second chance:",
                format!("importer rejects --replay{object}"),
            )
        }
    };
    let (kind, unit) = if is_failed { (Kind::Failed, "objects") } else { (Kind::Rejected, "rows") };
    Problem {
        reason: some(group.reason),
        column: some(group.column_name),
        more: group.n_objects > MOST_COUNTED,
        since: Some(group.since),
        latest: Some(group.latest),
        said,
        sample,
        advice: advice.to_owned(),
        command: Some(command),
        ..Problem::new(kind, some(group.dataset), if is_failed { group.n.min(MOST_COUNTED) } else { group.n }, unit)
    }
}

/// What to do before a failed object is tried again.
fn advice(reason: &str) -> &'static str {
    match reason {
        "corrupt" | "limits" => {
            "The file itself is at fault: have the producer put it again, or raise the limit. Then:"
        }
        "schema" | "constraint" => "The table does not take it: mend the table or the dataset's settings. Then:",
        "access" | "no_bucket" | "archived" => "The store does not hand it out: mend the rights, or restore it. Then:",
        "too_many_rejects" => "More rows are bad than `max_rejects` allows: see its rejects. Then:",
        "unrouted" => {
            "No dataset takes it: mend `match` and start the importers anew. Then the dead letters may go back to the queue:"
        }
        "command" => "The dataset's program fails: mend it. Then:",
        _ => "Find out why from what was said of one, and mend that. Then:",
    }
}

fn of_held(held: Held, may_show: bool) -> Problem {
    let is_slow = held.state == "importing";
    let (kind, advice) = if is_slow {
        (Kind::Slow, "Huge objects, a lock that is waited for, or a worker that is gone. Which they are:")
    } else {
        (Kind::Held, "They are tried again by themselves, until what they wait for is there. Which they are:")
    };
    let dataset =
        if held.dataset.is_empty() { String::new() } else { format!(" --dataset {}", shell::quoted(&held.dataset)) };
    let said = held.said.as_deref().map(|said| values::of_object(Some(&held.reason), said, may_show));
    Problem {
        reason: some(held.reason),
        more: held.n >= MOST_COUNTED,
        since: held.since,
        latest: held.latest,
        said,
        sample: Some(Sample { object_id: held.object_id, bucket: held.bucket, key: held.key }),
        advice: advice.to_owned(),
        command: Some(format!("importer status --state {}{dataset}", held.state)),
        ..Problem::new(kind, some(held.dataset), held.n.min(MOST_COUNTED), "objects")
    }
}

fn of_lock(lock: Lock) -> Problem {
    let who = [lock.application, lock.role].into_iter().find(|text| !text.is_empty());
    let doing = if lock.doing.is_empty() { "of unknown state".to_owned() } else { lock.doing };
    Problem {
        reason: Some("lock".into()),
        since: lock.since,
        latest: lock.since,
        said: Some(format!("process {} ({}, {doing}) holds it", lock.pid, who.unwrap_or_else(|| "unknown".into()))),
        advice: "Let it finish, or end it if nobody needs it:".into(),
        command: Some(format!("psql \"$DATABASE_URL\" -c 'SELECT pg_terminate_backend({})'", lock.pid)),
        ..Problem::new(Kind::Locked, lock.relation, lock.n, "sessions")
    }
}

fn of_unsent(unsent: Unsent) -> Problem {
    Problem {
        reason: Some(unsent.kind),
        more: unsent.n >= MOST_COUNTED,
        since: Some(unsent.since),
        latest: Some(unsent.since),
        said: unsent.said,
        advice: format!(
            "Tried up to {} times. Mend the target or the rights to it; it is tried again by itself, or at once:",
            unsent.attempts
        ),
        command: Some("importer due".into()),
        ..Problem::new(Kind::Unsent, Some(unsent.target), unsent.n, "messages")
    }
}

/// Returns the problem that the database cannot be reached, if it is that; `since` it was seen last. `start`: what starts it.
#[must_use]
pub fn of_failure(failure: Option<&Failure>, since: Option<DateTime<Utc>>, start: Option<&str>) -> Option<Problem> {
    let Some(Failure::Unreachable(why)) = failure else { return None };
    let holds = "Importers hold what they have and lose nothing; they go on by themselves when it is back. ";
    let (advice, command) = match start {
        Some(start) => ("If the server is down, this starts it:", start),
        None => ("Start the server, or mend the way to it. Whether it answers:", "pg_isready -d \"$DATABASE_URL\""),
    };
    Some(Problem {
        reason: Some("unreachable".into()),
        since,
        said: Some(why.clone()),
        advice: holds.to_owned() + advice,
        command: Some(command.to_owned()),
        ..Problem::new(Kind::NoDatabase, None, 1, "databases")
    })
}

/// Returns what is wrong with pools.
#[must_use]
pub fn of_pools(pools: &[PoolNow]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for pool in pools {
        let name = shell::quoted(&pool.pool);
        let history = format!("scaler history --pool {name} --since 1h --guards");
        let mut add = |kind, reason: &str, said: Option<&String>, advice: String, command: &str| {
            problems.push(Problem {
                reason: Some(reason.to_owned()),
                since: if kind == Kind::NoScaler { pool.at } else { pool.late_since },
                latest: pool.at,
                said: said.cloned(),
                advice,
                command: Some(command.to_owned()),
                ..Problem::new(kind, Some(pool.pool.clone()), 1, "pools")
            });
        };
        if pool.is_silent() {
            let advice = "No scaler runs, or it cannot reach Postgres. The pool stays as it is. Start one, and see:";
            add(Kind::NoScaler, "no decision", pool.leader.as_ref(), advice.into(), "scaler check");
            continue;
        }
        if let Some(why) = &pool.queue_error {
            let advice = "The pool is held as it is. Which right or address is wrong:";
            add(Kind::QueueUnreadable, "counters", Some(why), advice.into(), "scaler check");
        }
        if pool.is_late() && pool.pause.is_some() {
            let advice = "It is paused by hand. To end that now:";
            add(Kind::Late, "paused", pool.explain.as_ref(), advice.into(), &format!("scaler resume --pool {name}"));
        } else if pool.is_late() && pool.is_at_max() {
            let all = format!("All {} workers that `max` allows are there. ", pool.max.unwrap_or_default());
            let (advice, command) = if pool.sink_healthy == Some(false) {
                (all + "Postgres takes no more of them: see below. What was decided:", history.as_str())
            } else {
                let more = "Raise `max` in scaler.toml if that is to last, and start the scaler anew. Until then one more worker \
                            helps, wherever importer.toml is (with `--queue` if there are several), and ends with the queue:";
                (all + more, "importer run --until-empty")
            };
            add(Kind::AtMax, "max", pool.explain.as_ref(), advice, command);
        } else if pool.is_late() {
            let reason = pool.reason.as_deref().unwrap_or("unknown");
            let advice = "It grows, or is held back as was said; what each guard allowed:";
            add(Kind::Late, reason, pool.explain.as_ref(), advice.into(), &history);
        }
        if let Some(reason @ ("no_progress" | "dead_worker")) = pool.reason.as_deref() {
            let advice = "Workers do not come up, or receive and finish nothing: see their logs. What was decided:";
            add(Kind::PoolStuck, reason, pool.explain.as_ref(), advice.into(), &history);
        } else if pool.sink_healthy == Some(false) {
            let advice = "Postgres is slow to commit, full, or importers wait for locks; the pool does not grow. See below, and:";
            add(Kind::PoolStuck, "postgres", pool.explain.as_ref(), advice.into(), &history);
        }
    }
    problems
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(kind: &str, n_objects: i64, key: &str) -> Group {
        Group {
            kind: kind.into(),
            dataset: "d".into(),
            reason: "schema".into(),
            column_name: String::new(),
            n_objects,
            n: n_objects,
            since: DateTime::UNIX_EPOCH,
            latest: DateTime::UNIX_EPOCH,
            bucket: Some("b".into()),
            key: Some(key.into()),
            object_id: 1,
            said: None,
        }
    }

    #[test]
    fn commands_name_what_they_are_for() {
        let command = |group| of_group(group, false).command.expect("a command");
        assert_eq!(command(group("failed", 2, "k")), "importer replay --state failed --dataset d");
        assert_eq!(
            command(group("failed", 1, "it's")),
            "importer replay --state failed --dataset d --prefix 's3://b/it'\\''s'"
        );
        assert_eq!(command(group("rejected", 5, "k")), "importer rejects --replay");
        assert_eq!(command(group("rejected", 1, "k")), "importer rejects --replay s3://b/k");
        assert!(of_group(group("failed", 1001, "k"), false).more);
    }

    #[test]
    fn a_pool_at_its_maximum_is_a_problem_when_it_is_late_only() {
        let pool = |oldest| PoolNow {
            reason: Some("max".into()),
            oldest_secs: Some(oldest),
            promised_secs: Some(900.0),
            ..PoolNow::default()
        };
        assert!(of_pools(&[pool(10.0)]).is_empty());
        let grows = PoolNow { reason: Some("deadline".into()), ..pool(1000.0) };
        assert_eq!(of_pools(&[grows]).first().map(|problem| problem.kind), Some(Kind::Late));
        assert_eq!(of_pools(&[pool(1000.0)]).first().map(|problem| problem.kind), Some(Kind::AtMax));
    }
}
