//! The stacks of `infra/aws`, created in the emulated AWS, and an import through what they made.

use crate::{
    templates::{assemble, directory},
    world::LIMIT,
};
use anyhow::{Context as _, Result};
use aws_sdk_s3::types::{EventBridgeConfiguration, NotificationConfiguration};
use penstock_tests::{
    aws::{Account, Outputs, texts},
    database::Database,
    postgres::Postgres,
    process::Program,
    scratch::Scratch,
    wait,
};
use std::{fs, path::PathBuf};

/// The image for Intel and AMD, which the emulator knows.
const IMAGE: &str = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64";
const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:penstock-abc123";

#[tokio::test(flavor = "multi_thread")]
async fn an_object_put_into_a_bucket_of_the_stacks_is_imported_by_a_worker_configured_from_their_outputs() -> Result<()>
{
    let site = Site::new().await?;
    let telemetry =
        "{\"event_id\": 1, \"observed_at\": \"2026-01-31T10:00:00Z\", \"sender_domain\": \"example.org\"}\n";
    site.account.put(&site.bucket("telemetry"), "dt=2026-01-31/a.ndjson", telemetry).await?;
    let orders = "order_number,placed_at,total\n7,2026-01-31,12.50\n";
    site.account.put(&site.bucket("partners"), "orders/aurora.csv", orders).await?;
    // Beside the prefix: no dataset's, so it makes no message.
    site.account.put(&site.bucket("partners"), "drafts/aurora.csv", "order_number\n8\n").await?;
    site.wait_for_messages(2).await?;
    site.drain().await?;
    let rows = site.database.rows("SELECT event_id || ' ' || sender_domain || ' ' || dt FROM telemetry").await?;
    assert_eq!(rows, ["1 example.org 2026-01-31"]);
    let orders = "SELECT shop || ' ' || order_number || ' ' || total FROM orders";
    assert_eq!(site.database.rows(orders).await?, ["aurora 7 12.50"]);

    // The orders' source tells of removals, the telemetry's does not.
    site.account.delete(&site.bucket("telemetry"), "dt=2026-01-31/a.ndjson").await?;
    site.account.delete(&site.bucket("partners"), "orders/aurora.csv").await?;
    site.wait_for_messages(1).await?;
    site.drain().await?;
    assert_eq!(site.database.rows(orders).await?, [""; 0]);
    assert_eq!(site.depth("DeadLetterQueueUrl").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queues_stack_passes_the_importers_own_check() -> Result<()> {
    let site = Site::new().await?;
    site.importer("migrate").run(LIMIT).await?;
    let ended = site.importer("check").run(LIMIT).await?;
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    // What it warns of in a queue: no dead letters, their retention, too few receives, too short a memory.
    for word in ["dead-letter queue (DLQ)", "retention", "maxReceiveCount"] {
        assert!(!ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_starts_from_none_and_waits_for_drains() -> Result<()> {
    let site = Site::new().await?;
    let group = [("AutoScalingGroupName".to_owned(), site.importers["GroupName"].clone())];
    let named = [("AutoScalingGroupNames.member.1".to_owned(), site.importers["GroupName"].clone())];
    let described = site.account.query("autoscaling", "DescribeAutoScalingGroups", &named).await?;
    assert_eq!(texts(&described, "MinSize"), ["0"]);
    assert_eq!(texts(&described, "DesiredCapacity"), ["0"]);
    let hooks = site.account.query("autoscaling", "DescribeLifecycleHooks", &group).await?;
    assert_eq!(texts(&hooks, "LifecycleTransition"), ["autoscaling:EC2_INSTANCE_TERMINATING"]);
    assert_eq!(texts(&hooks, "DefaultResult"), ["CONTINUE"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_stack_can_be_created_beside_them() -> Result<()> {
    let site = Site::new().await?;
    let network = [("VpcId", site.vpc.as_str()), ("SubnetIds", site.subnet.as_str())];
    let queue = |key: &'static str| site.queue[key].as_str();
    let queues = [("QueueArn", queue("QueueArn")), ("DeadLetterQueueArn", queue("DeadLetterQueueArn"))];
    let image = [("Image", "penstock:test"), ("DatabaseUrlSecretArn", SECRET)];
    let parameters = [&network[..], &queues, &image, &[("QueueUrl", queue("QueueUrl"))]].concat();
    let tasks = site.create("penstock-importers-ecs", "importers-ecs.yaml", &parameters).await?;
    assert!(tasks.contains_key("RoleName") && tasks["ServiceName"] == "penstock-importers", "{tasks:?}");

    let pools = [
        ("GroupName", site.importers["GroupName"].as_str()),
        ("ClusterName", tasks["ClusterName"].as_str()),
        ("ServiceName", tasks["ServiceName"].as_str()),
    ];
    let scaler = [&network[..], &image, &pools, &queues[..1]].concat();
    site.create("penstock-scaler", "scaler.yaml", &scaler).await?;
    let operator = site.create("penstock-operator", "operator.yaml", &queues).await?;
    assert!(operator["PolicyArn"].contains(":policy/"), "{operator:?}");
    Ok(())
}

/// An account with the queue's stack, the importers' and those of all datasets.
struct Site {
    account: Account,
    database: Database,
    queue: Outputs,
    importers: Outputs,
    vpc: String,
    subnet: String,
    config: PathBuf,
    _scratch: Scratch,
}

impl Site {
    async fn new() -> Result<Self> {
        let account = Account::new().await?;
        let database = Postgres::shared()?.create_database().await?;
        let scratch = Scratch::new("stacks")?;
        assemble(scratch.path(), None).map_err(anyhow::Error::msg)?;
        for entry in fs::read_dir(directory().join("datasets"))? {
            database.execute(&fs::read_to_string(entry?.path().join("table.sql"))?).await?;
        }

        // Buckets share their names with all accounts, there as here.
        let unique = |file: &str| -> Result<String> {
            let text = fs::read_to_string(scratch.path().join(file))?;
            Ok(text.replace("example-", &format!("example-{}-", account.id())))
        };
        let settings = "\n[http]\nlisten = \"127.0.0.1:0\"\n\n[queue]\nwait_secs = 1\n";
        let config = scratch.write("importer.toml", unique("importer.toml")? + settings)?;
        let stacks = unique("stacks")?;

        let vpcs = account.query("ec2", "DescribeVpcs", &[]).await?;
        let vpc = texts(&vpcs, "vpcId").into_iter().next().context("the account has no VPC")?;
        let subnets = account.query("ec2", "DescribeSubnets", &[]).await?;
        let subnet = texts(&subnets, "subnetId").into_iter().next().context("the account has no subnet")?;
        let mut site = Self {
            account,
            database,
            queue: Outputs::new(),
            importers: Outputs::new(),
            vpc,
            subnet,
            config,
            _scratch: scratch,
        };
        site.queue = site.create("penstock-queue", "queue.yaml", &[]).await?;
        let importers = [
            ("VpcId", site.vpc.as_str()),
            ("SubnetIds", site.subnet.as_str()),
            ("ImageId", IMAGE),
            ("QueueUrl", site.queue["QueueUrl"].as_str()),
            ("QueueArn", site.queue["QueueArn"].as_str()),
            ("DeadLetterQueueArn", site.queue["DeadLetterQueueArn"].as_str()),
            ("ArtifactsBucket", "example-artifacts"),
            ("DatabaseUrlSecretArn", SECRET),
        ];
        site.importers = site.create("penstock-importers", "importers-asg.yaml", &importers).await?;
        site.create_partners_bucket().await?;
        for line in stacks.lines() {
            site.create_source(line).await?;
        }
        // The test event that S3 sends is a story of its own.
        site.account.sqs.purge_queue().queue_url(&site.queue["QueueUrl"]).send().await?;
        Ok(site)
    }

    /// The bucket that was there before Penstock, told to speak to EventBridge as the guide says.
    async fn create_partners_bucket(&self) -> Result<()> {
        let bucket = self.bucket("partners");
        self.account.create_bucket(&bucket, true).await?;
        let events = EventBridgeConfiguration::builder().build();
        let notifications = NotificationConfiguration::builder().event_bridge_configuration(events).build();
        let put = self.account.s3.put_bucket_notification_configuration().bucket(bucket);
        put.notification_configuration(notifications).send().await?;
        Ok(())
    }

    /// Creates what a line of `stacks` names: the stack, its template, its parameters.
    async fn create_source(&self, line: &str) -> Result<()> {
        let mut words = line.split(' ');
        let (stack, template) = (words.next().context("a name")?, words.next().context("a template")?);
        let named = words.map(|word| word.split_once('=').context("Key=Value"));
        let mut parameters = named.collect::<Result<Vec<_>>>()?;
        parameters.extend([
            ("QueueArn", self.queue["QueueArn"].as_str()),
            ("DeadLetterQueueArn", self.queue["DeadLetterQueueArn"].as_str()),
            ("ImporterRoles", self.importers["RoleName"].as_str()),
        ]);
        self.create(stack, template, &parameters).await?;
        Ok(())
    }

    async fn create(&self, stack: &str, template: &str, parameters: &[(&str, &str)]) -> Result<Outputs> {
        // The emulator takes a service's number for text when it comes from a parameter.
        let text =
            fs::read_to_string(directory().join(template))?.replace("DesiredCount: !Ref Scalers", "DesiredCount: 1");
        self.account.create_stack(stack, &text, parameters).await
    }

    fn bucket(&self, name: &str) -> String {
        format!("example-{}-{name}", self.account.id())
    }

    fn importer(&self, subcommand: &str) -> Program {
        Program::new("importer")
            .arg(subcommand)
            .args(["--log-format", "json"])
            .env("IMPORTER_CONFIG", self.config.display().to_string())
            .env("DATABASE_URL", self.database.url())
            .env("QUEUE_URL", &self.queue["QueueUrl"])
            .envs(self.account.variables())
    }

    async fn drain(&self) -> Result<()> {
        self.importer("run").arg("--until-empty").start()?.finish(LIMIT).await
    }

    async fn wait_for_messages(&self, n_messages: u64) -> Result<()> {
        let what = format!("{n_messages} messages");
        let there = || async { Ok((self.depth("QueueUrl").await? == n_messages).then_some(())) };
        wait::until(&what, LIMIT, there).await
    }

    async fn depth(&self, queue: &str) -> Result<u64> {
        let visible = aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages;
        let asked = self.account.sqs.get_queue_attributes().queue_url(&self.queue[queue]);
        let answer = asked.attribute_names(visible.clone()).send().await?;
        let counters = answer.attributes.unwrap_or_default();
        Ok(counters.get(&visible).context("a counter")?.parse()?)
    }
}
