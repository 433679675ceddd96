//! Loads from a bucket that is near and from one that is far: one server behind proxies, without delays and with.

use super::{Bench, Report};
use anyhow::{Context as _, Result, ensure};
use penstock_tests::{
    aws::REGION,
    proxy::{Action, Proxy, Rule},
    repository, spawn,
    telemetry::Format,
};
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

const SMALL_NEAR: &str = "small objects: from a near bucket, 1 worker at defaults";
const SMALL_AGAIN: &str = "small objects: the same again, out of the bucket";
const SMALL_FAR: &str = "small objects: from a far bucket (30 ms, queue 8 ms), 1 worker at defaults";

/// How long a far bucket and its queue take to answer, and bytes a second of each of its connections.
const BUCKET: Duration = Duration::from_millis(30);
const QUEUE: Duration = Duration::from_millis(8);
const BYTES_PER_SEC: u32 = 80_000_000;

/// Returns the case of one large object.
fn large(format: Format, is_far: bool) -> String {
    let bucket = if is_far { "far bucket (30 ms, 80 MB/s a connection)" } else { "near bucket" };
    format!("{}: one large object from a {bucket}", format.extension())
}

impl Bench {
    /// Measures one worker at defaults on many small objects and on one large object of each format, from both buckets.
    ///
    /// # Errors
    /// When the server cannot be started or a run fails.
    pub async fn far(&self, report: &mut Report, formats: &[Format]) -> Result<()> {
        let small = (SMALL_NEAR.to_owned(), SMALL_FAR.to_owned());
        self.near_and_far(report, small, &self.data.small(), (self.data.n_small_rows, self.data.n_small)).await?;
        for format in formats {
            let names = (large(*format, false), large(*format, true));
            self.near_and_far(report, names, &self.data.large(*format), (self.data.n_rows, 1)).await?;
        }
        Ok(())
    }

    async fn near_and_far(
        &self,
        report: &mut Report,
        (near, far): (String, String),
        place: &Path,
        (n_rows, n_objects): (u64, u64),
    ) -> Result<()> {
        if self.skips(&near) && self.skips(&far) {
            return Ok(());
        }
        for name in [&near, &far] {
            let database = self.fresh().await?;
            let stand = Stand::start(place, name == &far).await?;
            let config = self.config_with(&database, "upsert", None, "")?;
            let mut command = self.importer(&config)?;
            command.envs(stand.variables());
            let cost = self.emptied(&database, command).await?;
            report.add(name, &near, n_rows, n_objects, cost);
            self.check(&database, n_rows).await?;
            if name == SMALL_NEAR {
                // The listing says which versions there are; nothing is read.
                let mut command = self.importer(&config)?;
                command.args(["load", "s3://landing/", "--dataset", "telemetry"]).envs(stand.variables());
                let cost = self.measured(&database, vec![command]).await?;
                report.add(SMALL_AGAIN, SMALL_NEAR, n_rows, n_objects, cost);
            }
        }
        Ok(())
    }
}

/// A bucket with a directory's objects and a queue with their events, each behind a proxy.
struct Stand {
    server: Child,
    bucket: Proxy,
    queue: Proxy,
}

impl Stand {
    async fn start(place: &Path, is_far: bool) -> Result<Self> {
        let packages = repository().join(".cache/fauxqs/node_modules");
        let node = std::fs::read_dir(&packages).context("infra/local/prepare.sh bench installs what this needs")?;
        let node = node.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with("node-linux-"));
        let mut command = spawn::tied(node.context("there is no Node")?.path().join("bin/node"), "KILL", None)?;
        // It loads SQLite, which is an experiment in Node, and uses nothing of it here.
        command
            .arg("--disable-warning=ExperimentalWarning")
            .arg(repository().join("tests/emulator/fauxqs.mjs"))
            .arg(packages.join("fauxqs"))
            .arg(place);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut server = spawn::spawn(command).context("start fauxqs")?;
        let mut address = String::new();
        let stdout = server.stdout.take().context("it has an output")?;
        BufReader::new(stdout).read_line(&mut address)?;
        ensure!(!address.is_empty(), "fauxqs did not start");
        let (bucket, queue) = (Proxy::start(address.trim()).await?, Proxy::start(address.trim()).await?);
        if is_far {
            bucket.pace(BYTES_PER_SEC);
            for (proxy, delay) in [(&bucket, BUCKET), (&queue, QUEUE)] {
                // Once in the head of each request; a connection has one at a time.
                proxy.add(Rule::when_client_sends(" HTTP/1.1\r\n", Action::Delay(delay)).always());
            }
        }
        Ok(Self { server, bucket, queue })
    }

    fn variables(&self) -> [(&'static str, String); 7] {
        [
            ("AWS_ENDPOINT_URL_S3", self.bucket.endpoint()),
            ("AWS_ENDPOINT_URL_SQS", self.queue.endpoint()),
            ("QUEUE_URL", format!("{}/000000000000/imports", self.queue.endpoint())),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // Nothing of it is kept, so it need not end in order.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Returns a row for each aim that was measured.
pub fn aims(report: &Report) -> String {
    let share = |near: &str, far: &str| report.median(far, near, |cost, base| base.secs / cost.secs);
    let mut rows = String::new();
    if let (Some(share), Some(rate)) = (share(SMALL_NEAR, SMALL_FAR), report.objects_per_sec(SMALL_FAR)) {
        rows += &format!(
            "| small objects from a bucket that answers after 30 ms, queue after 8 ms, one worker at defaults: objects/s \
             | 700 | {rate:.0} |\n\
             | the same: rate of the same without delay | 0.9 | {share:.2} |\n"
        );
    }
    for format in [Format::Parquet, Format::Ndjson, Format::Csv] {
        let Some(share) = share(&large(format, false), &large(format, true)) else { continue };
        rows += &format!(
            "| one large {} from that bucket at 80 MB/s a connection: rate of the same without delay and limit \
             | 0.95 | {share:.2} |\n",
            format.extension()
        );
    }
    rows
}
