//! `importer check`: connects to everything, shows what would go where, and says what to do about the rest.

mod bucket;
mod queue;
mod sample;
mod server;
mod steps;
mod table;

use super::{EXIT_WRONG, for_queue, output, s3_store};
use crate::{
    config::{Config, Dataset},
    database,
    object::{ObjectStore, s3::S3Store},
    route::Router,
};
use anyhow::Context;
use service::{
    findings::Findings,
    postgres::{Server, Silent, TransactionPooler},
};
use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// How long each thing that is connected to may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to do when Postgres refuses a question that it should answer.
const LOOK_AT_SERVER: &str = "look into the server's log, then check again";

/// Checks everything the configuration names; offline only what can be said without it. `file_name` is what messages call
/// the configuration.
///
/// # Errors
/// Only when the result cannot be written; what is wrong outside is a finding.
pub async fn run(config: &Config, file_name: &str, offline: bool) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    output::unless_closed(print(config, file_name, offline, &mut out).await)
}

async fn print(config: &Config, file_name: &str, offline: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut findings = Findings::default();
    let router = Router::new(config).context("compile the patterns")?;
    output::line(out, &format!("configuration {file_name}: {}", datasets_named(&config.datasets)))?;
    check_routing(&router, &mut findings);
    if !offline {
        let sdk = service::aws::config().await?;
        check_queue(config, &sdk, &mut findings, out).await?;
        let store = s3_store(&sdk, &config.buckets);
        check_datasets(config, &router, &Arc::new(store), &mut findings, out).await?;
    }

    for line in findings.lines() {
        output::line(out, &line)?;
    }
    out.flush()?;
    Ok(if findings.is_wrong() { ExitCode::from(EXIT_WRONG) } else { ExitCode::SUCCESS })
}

fn datasets_named(datasets: &[Dataset]) -> String {
    let names: Vec<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    if names.is_empty() { "no datasets".into() } else { format!("datasets {}", names.join(", ")) }
}

fn check_routing(router: &Router, findings: &mut Findings) {
    for overlap in router.overlaps() {
        findings.warn(
            format!("dataset {}", overlap.second),
            format!(
                "its match overlaps with that of {}, which comes first and takes {} and similar objects",
                overlap.first, overlap.example
            ),
            "narrow one of them if this is not intended",
        );
    }
}

async fn check_queue(
    config: &Config,
    sdk: &aws_config::SdkConfig,
    findings: &mut Findings,
    out: &mut impl Write,
) -> io::Result<()> {
    let Some(url) = &config.queue.url else {
        findings.warn("queue", "queue.url is missing: load works without, run does not", "set it or QUEUE_URL");
        return Ok(());
    };
    let read = tokio::time::timeout(
        PATIENCE,
        queue::read(&for_queue(sdk, &config.queue), url, config.queue.dead_letter_url.as_deref()),
    )
    .await;
    match read.map_err(|_| anyhow::anyhow!("SQS did not answer within {PATIENCE:?}")).and_then(|read| read) {
        Ok(queues) => {
            output::line(out, &format!("queue {url}, {}", queues.described()))?;
            queue::judge(&queues, findings);
        }
        Err(error) => findings.failed(
            "queue",
            &error,
            "check that queue.url, region and credentials belong together and that this role has sqs:GetQueueAttributes",
        ),
    }
    Ok(())
}

async fn check_datasets(
    config: &Config,
    router: &Router,
    store: &Arc<S3Store>,
    findings: &mut Findings,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut database = match connect(config).await {
        Ok(database) => Some(database),
        Err(error) if error.is::<TransactionPooler>() => {
            let text = "a transaction pooler stands before Postgres: settings, temporary tables and prepared statements of a \
                        session do not last through it";
            findings.wrong("database", text, "connect to Postgres itself or use session pooling");
            None
        }
        Err(error) => {
            findings.failed(
                "database",
                &error,
                "check that it runs and that host, port, user and password in database.url (or DATABASE_URL) are right",
            );
            None
        }
    };
    if let Some((server, connection)) = &mut database {
        let looking = server::check(connection, server, findings);
        match server.answer("look at the server", looking).await {
            Ok(described) => output::line(out, &format!("database {described}"))?,
            Err(error) => {
                findings.failed("database", &error, LOOK_AT_SERVER);
                database.take_if(|_| error.is::<Silent>());
            }
        }
    }
    if let Some((server, connection)) = &mut database {
        let looked = server.answer("look at what is due", steps::check(connection, config, findings)).await;
        if let Err(error) = looked {
            findings.failed("due", &error, LOOK_AT_SERVER);
            database.take_if(|_| error.is::<Silent>());
        }
    }
    for dataset in &router.datasets {
        let store: Arc<dyn ObjectStore> = Arc::<S3Store>::clone(store);
        let object = tokio::time::timeout(PATIENCE, bucket::find(&store, router, dataset, findings)).await;
        let object = object.unwrap_or_else(|_| {
            let text = format!("S3 did not answer within {PATIENCE:?}");
            findings.wrong(
                format!("dataset {}", dataset.name),
                text,
                "check that region, endpoint and network let it be reached",
            );
            None
        });
        let captures = router.capture_names(dataset);
        let subject = table::Subject { config, dataset: &dataset.config, captures: &captures };
        if let Some((server, connection)) = &mut database
            && let Err(error) = table::check(connection, server, &subject, object, findings, out).await
        {
            if error.downcast_ref::<io::Error>().is_some() {
                return Err(error);
            }
            findings.failed(format!("dataset {}", dataset.name), &error, LOOK_AT_SERVER);
            database.take_if(|_| error.is::<Silent>());
        }
    }
    Ok(())
}

async fn connect(config: &Config) -> anyhow::Result<(Server, sqlx::PgConnection)> {
    if !config.database.is_set() {
        anyhow::bail!("neither database.url nor DATABASE_URL nor DATABASE_URL_FILE is set");
    }
    let server = config.database.server("penstock importer check")?;
    database::refuse_transaction_pooler(&server).await?;
    let connection = server.connect().await?;
    Ok((server, connection))
}
