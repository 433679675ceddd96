//! `scaler check`: configuration, permissions, reachability, and one dry tick, each line saying what to do next.

use crate::{
    config::{Config, Database, Pool, WorkersKind},
    observation::{Observation, PoolSize},
    policy::{self, State, Target},
    pool::{Remark, WorkerPool, any::AnyPool, census},
    queue_depth::SqsQueues,
    store::Store,
};
use aws_config::SdkConfig;
use chrono::Utc;
use service::{
    findings::Findings,
    postgres::{STATEMENT_TIMEOUT, TransactionPooler, refuse_transaction_pooler},
};
use tokio::time::timeout;

/// `application_name` of the check's connections.
const APPLICATION_NAME: &str = "penstock scaler check";

/// Checks everything a run would need; changes nothing.
pub async fn check(config: Config) -> Findings {
    let mut found = Findings::default();
    let store = match &config.database {
        Some(database) => {
            let store = Store::new(database.clone(), APPLICATION_NAME, STATEMENT_TIMEOUT);
            check_database(database, &store, &mut found).await.then_some(store)
        }
        None => {
            found.warn(
                "database",
                "there is no [database]: rates are not measured, decisions are not kept, and only one scaler may run",
                "point it at the importers' database, unless this is intended",
            );
            None
        }
    };
    let aws = match service::aws::config().await {
        Ok(aws) => aws,
        Err(error) => {
            found.failed("AWS", &error, "name a bundle of certificates in PEM, or unset AWS_CA_BUNDLE");
            return found;
        }
    };
    for pool in &config.pools {
        check_pool(pool, &aws, store.as_ref(), &mut found).await;
    }
    found
}

/// Returns whether the ledger can be read.
async fn check_database(database: &Database, store: &Store, found: &mut Findings) -> bool {
    let pooler = async { refuse_transaction_pooler(&database.server(APPLICATION_NAME)?).await };
    if let Err(error) = pooler.await
        && error.is::<TransactionPooler>()
    {
        found.failed("database", &error, "give `database.url` the server's own address");
        return false;
    }
    match store.missing_migrations().await {
        Err(error) => {
            found.failed(
                "database",
                &error,
                "check that `database.url` (or DATABASE_URL) is right, that the server runs, and that it lets this host in",
            );
            return false;
        }
        Ok(0) => {}
        Ok(missing) => {
            found.warn(
                "database",
                format!("schema penstock is {missing} migrations behind"),
                "`scaler run` applies them where its role may, else run `importer migrate` as the owner",
            );
            return false;
        }
    }
    match store.read("", &[], Some(Utc::now()), 0.0).await {
        Ok(_) => {
            found.fine("database: the ledger can be read");
            true
        }
        Err(error) => {
            found.failed("database", &error, "grant this role SELECT on schema penstock's tables");
            false
        }
    }
}

async fn check_pool(pool: &Pool, aws: &SdkConfig, store: Option<&Store>, found: &mut Findings) {
    let subject = format!("pool {}", pool.name);
    let mut backend = match AnyPool::open(pool, aws) {
        Ok(backend) => backend,
        Err(error) => return found.wrong(&subject, error, "add what is missing to the pool in scaler.toml"),
    };
    let depths =
        SqsQueues::new(aws, pool.queue_urls.clone(), pool.role().as_ref(), pool.timeouts()).depths(pool.start_up).await;
    let depth = depths.total();
    if let Some(depth) = depth {
        let read = depths.0.iter().filter(|(_, depth)| depth.is_ok()).count();
        found.fine(format!(
            "{subject}: {} visible, {} in flight, {} delayed on {read} queues",
            depth.visible, depth.in_flight, depth.delayed,
        ));
    }
    for error in depths.0.iter().filter_map(|(_, depth)| depth.as_ref().err()) {
        found.failed(
            &subject,
            error,
            "check that the URL, the region and the credentials are right, and allow sqs:GetQueueAttributes",
        );
    }
    let checked = timeout(STATEMENT_TIMEOUT, backend.check()).await;
    match checked.unwrap_or_else(|_| Err(anyhow::anyhow!("not done within {STATEMENT_TIMEOUT:?}"))) {
        Ok(remarks) => {
            for remark in remarks {
                match remark {
                    Remark::Fine(line) => found.fine(format!("{subject}: {line}")),
                    Remark::Doubt { what, next } => found.warn(&subject, what, next),
                    Remark::Wrong { what, next } => found.wrong(&subject, what, next),
                }
            }
        }
        Err(error) => found.failed(&subject, &error, remedy(pool)),
    }
    for (what, next) in doubts(pool) {
        found.warn(&subject, what, next);
    }
    let queue = depth.ok_or("the counters could not be read".to_owned());
    let mut seen = Observation { queue_unread: depths.unread(), ..Observation::of(PoolSize::default(), queue) };
    if let Some(store) = store
        && let Ok(reading) = store.read(&pool.name, &pool.queue_urls, None, 0.0).await
    {
        seen.pool = census::workers(&reading.heartbeats);
        seen.pause = reading.pause;
    }
    if let Some(pause) = seen.pause.as_ref().filter(|pause| pause.until > Utc::now()) {
        let by = pause.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let next = format!("it ends by itself; `scaler resume --pool {}` ends it now", pool.name);
        found.warn(&subject, format!("paused {}{by}", pause.words()), next);
    }
    found.fine(format!("{subject}: a first tick would say: {}", dry_tick(pool, &seen)));
}

/// Returns what to look at when a pool's workers cannot be reached.
fn remedy(pool: &Pool) -> &'static str {
    match pool.workers {
        Some(WorkersKind::Asg { .. }) => {
            "check that `group`, the region and the credentials are right, and allow autoscaling:DescribeAutoScalingGroups"
        }
        Some(WorkersKind::Ecs { .. }) => {
            "check that `cluster`, `service`, the region and the credentials are right, and that the role has the right named"
        }
        Some(WorkersKind::Kubernetes { .. }) => {
            "check that `namespace` and `deployment` are right, that KUBECONFIG or the pod's service account is the one meant, \
             and that its Role has what was refused"
        }
        _ => "mend [pool.workers]",
    }
}

/// Returns what is allowed and probably not meant, and what to do about it.
fn doubts(pool: &Pool) -> Vec<(String, &'static str)> {
    let policy = pool.policy();
    let mut doubts = Vec::new();
    if let Target::Deadline { drain_within_secs } = policy.target {
        let cold_start = policy.start_up_secs + 40.0 + policy.job_secs;
        if pool.min == 0 && cold_start > 0.8 * drain_within_secs {
            doubts.push((
                format!("`drain_within` leaves no room for a cold start ({cold_start:.0} s), so one worker will stay"),
                "set min = 1 to say so, or allow more time",
            ));
        }
        if policy.job_secs > drain_within_secs {
            doubts.push((
                "`job` is longer than `drain_within`: no message can be done in time".to_owned(),
                "allow more time, or give the job's real length",
            ));
        }
    }
    if pool.min > pool.initial_proven {
        doubts.push(("`min` is above `initial_proven`".to_owned(), "raise `initial_proven` to it, or lower `min`"));
    }
    doubts
}

fn dry_tick(pool: &Pool, seen: &Observation) -> String {
    let (decision, _) = policy::decide(&pool.policy(), seen, &State::default(), Utc::now());
    format!("{} ({}) {}", decision.desired, decision.reason, decision.explain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::QueueDepth;

    fn pool(text: &str) -> Pool {
        Config::parse(&format!("[[pool]]\nname = \"a\"\n{text}\n"), "a", |_| None).expect("a config").pools.remove(0)
    }

    #[test]
    fn promise_without_room_for_a_cold_start_is_doubted() {
        assert_eq!(doubts(&pool("drain_within = \"15m\"")).len(), 0);
        assert!(doubts(&pool("drain_within = \"90s\""))[0].1.contains("min = 1"));
        assert_eq!(doubts(&pool("drain_within = \"90s\"\nmin = 1")).len(), 0);
        let all = doubts(&pool("drain_within = \"15m\"\njob = \"1h\""));
        assert!(all.iter().any(|(what, _)| what.contains("no message")), "{all:?}");
    }

    #[test]
    fn dry_tick_is_a_sentence() {
        let depth = QueueDepth { visible: 50, delayed_due: Some(0), ..QueueDepth::default() };
        let said = dry_tick(&pool("backlog_per_worker = 10"), &Observation::of(PoolSize::default(), Ok(depth)));
        assert!(said.starts_with("5 (backlog) 50 visible"), "{said}");
    }
}
