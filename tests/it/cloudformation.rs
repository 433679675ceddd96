//! The stacks of `infra/aws`, created in the emulated AWS, and an import through what they made.

use crate::{
    guides::copy,
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
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The image for Intel and AMD, which the emulator knows.
const IMAGE: &str = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64";
/// Roles of another account.
const PARTNERS: &str = "arn:aws:iam::210987654321:role/penstock-*";
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
    let partner = [("AssumeRoleArns", PARTNERS)];
    let parameters = [&network[..], &queues, &image, &partner, &[("QueueUrl", queue("QueueUrl"))]].concat();
    let tasks = site.create("penstock-importers-ecs", "importers-ecs.yaml", &parameters).await?;
    let mut roles = vec![tasks["RoleArn"].clone()];
    assert!(tasks.contains_key("RoleName") && tasks["ServiceName"] == "penstock-importers", "{tasks:?}");

    let pools = [
        ("GroupName", site.importers["GroupName"].as_str()),
        ("ClusterName", tasks["ClusterName"].as_str()),
        ("ServiceName", tasks["ServiceName"].as_str()),
    ];
    let scaler = [&network[..], &image, &pools, &queues[..1], &partner].concat();
    let console = [
        ("ConsoleDatabaseUrlSecretArn", SECRET),
        ("ReportsDatabaseUrlSecretArn", SECRET),
        ("ConsoleClientSecurityGroupId", "sg-0123456789abcdef0"),
    ];
    let scaler = site.create("penstock-scaler", "scaler.yaml", &[&scaler[..], &console].concat()).await?;
    assert!(scaler.contains_key("ConsoleSecurityGroupId"), "{scaler:?}");
    roles.push(scaler["RoleArn"].clone());
    let operator = site.create("penstock-operator", "operator.yaml", &[&queues[..], &partner].concat()).await?;
    assert!(operator["PolicyArn"].contains(":policy/"), "{operator:?}");

    let policy = [("OperatorPolicyArn", operator["PolicyArn"].as_str()), ("QueueUrl", queue("QueueUrl"))];
    let owner = [("OwnerDatabaseUrlSecretArn", SECRET)];
    let parameters = [&network[..1], &image, &policy, &owner].concat();
    let tasks = site.create("penstock-operator-ecs", "operator-ecs.yaml", &parameters).await?;
    assert_eq!(tasks["ClusterName"], "penstock-operator");
    let secret = [("DatabaseUrlSecretArn", SECRET), ("ArtifactsBucket", "example-artifacts"), ("ImageId", IMAGE)];
    let place = [("VpcId", site.vpc.as_str()), ("SubnetId", site.subnet.as_str())];
    let parameters = [&place[..], &policy, &secret].concat();
    let machine = site.create("penstock-operator-ec2", "operator-ec2.yaml", &parameters).await?;
    assert!(machine["SecurityGroupId"].starts_with("sg-"), "{machine:?}");
    // The right to read a bucket comes to them as it does to importers, and the operator's was attached.
    for role in [&tasks["RoleName"], &machine["RoleName"]] {
        let named = [("RoleName".to_owned(), role.clone())];
        let attached = texts(&site.account.query("iam", "ListAttachedRolePolicies", &named).await?, "PolicyArn");
        assert!(attached.contains(&operator["PolicyArn"]), "{attached:?}");
    }

    let all = ["Group", "Service", "Sessions", "Notices", "Roles"].map(|of| (of, "yes"));
    let routes = [("VpcCidr", "10.0.0.0/16"), ("RouteTableIds", "rtb-0123456789abcdef0")];
    site.create("penstock-endpoints", "endpoints.yaml", &[&network[..], &routes, &all].concat()).await?;
    let identity = [("OidcProvider", "oidc.eks.eu-west-1.amazonaws.com/id/0123"), policy[0]];
    let eks = site.create("penstock-roles", "roles-eks.yaml", &[&queues[..], &identity, &partner].concat()).await?;
    let (names, arn) = (&eks["RoleNames"], &eks["ScalerRoleArn"]);
    assert!(names.split(',').count() == 2 && arn.contains(":role/"), "{eks:?}");
    let trust = site.document("GetRole", "AssumeRolePolicyDocument", &[("RoleName", name(arn))]).await?;
    assert!(
        trust.contains("id/0123:sub") && trust.contains("system:serviceaccount:penstock:penstock-scaler"),
        "{trust}"
    );

    // Who runs and who sizes importers may become the partner's roles, and so may who runs commands.
    for arn in [&roles[0], &roles[1], &eks["ImporterRoleArn"], &eks["ScalerRoleArn"]] {
        let named = [("RoleName", name(arn)), ("PolicyName", "queue")];
        let policy = site.document("GetRolePolicy", "PolicyDocument", &named).await?;
        assert!(policy.contains("sts:AssumeRole") && policy.contains(PARTNERS), "{arn}: {policy}");
        assert_eq!(policy.contains("sts:TagSession"), arn.contains("penstock-roles"), "{arn}: {policy}");
    }
    let named = [("PolicyArn", operator["PolicyArn"].as_str()), ("VersionId", "v1")];
    let policy = site.document("GetPolicyVersion", "Document", &named).await?;
    assert!(policy.contains("sts:TagSession") && policy.contains(PARTNERS), "{policy}");
    Ok(())
}

/// Returns a role's name, which its ARN ends with.
fn name(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or_default()
}

/// With the external id by whoever is named, and for sessions of Pod Identity, whose tags go along.
#[tokio::test(flavor = "multi_thread")]
async fn a_partners_role_lets_in_whom_it_names() -> Result<()> {
    let site = Site::new().await?;
    let role = site.importers["RoleArn"].as_str();
    let parameters = [
        ("TrustedRoleArns", role),
        ("ExternalId", "partner-7"),
        ("Bucket", "landing"),
        ("AfterLoad", "tag"),
        ("QueueArn", site.queue["QueueArn"].as_str()),
    ];
    let made = site.create("partner", "reader-role.yaml", &parameters).await?;
    let named = [("RoleName", name(&made["RoleArn"]))];
    let trust = site.document("GetRole", "AssumeRolePolicyDocument", &named).await?;
    let trust: serde_json::Value = serde_json::from_str(&trust)?;
    let statements = trust["Statement"].as_array().context("statements")?;
    assert_eq!(statements.len(), 2, "{trust}");
    for (statement, action) in statements.iter().zip(["sts:AssumeRole", "sts:TagSession"]) {
        assert_eq!(statement["Action"], action);
        assert_eq!(statement["Principal"]["AWS"], serde_json::json!([role]));
    }
    assert_eq!(statements[0]["Condition"]["StringEquals"]["sts:ExternalId"], "partner-7");
    for (policy, right) in [("bucket", "s3:PutObjectTagging"), ("queue", "sqs:ReceiveMessage")] {
        let named = [named[0], ("PolicyName", policy)];
        let document = site.document("GetRolePolicy", "PolicyDocument", &named).await?;
        assert!(document.contains(right), "{document}");
    }
    Ok(())
}

/// What a directory of a step has that takes what telemetry imports, with a queue and a pool of its own.
const STEP: [(&str, &str); 5] = [
    (
        "dataset.toml",
        "[[dataset]]\nname = \"sender_domains\"\nafter = \"telemetry\"\nqueue = \"sender_domains\"\n\
         table = \"public.sender_domain\"\nkey = [\"event_id\"]\non_new_field = \"ignore\"\n",
    ),
    ("queue.conf", "# Nobody waits for these.\nOldestMessageSeconds=14400\n"),
    ("pool.conf", "Template=importers-ecs.yaml\nCpu=2048\nMemory=4096\n"),
    ("pool.toml", "max = 2\ndrain_within = \"2h\"\nslots_per_worker = 4\nstart_up = \"60s\"\n"),
    ("table.sql", "CREATE TABLE public.sender_domain (event_id bigint PRIMARY KEY, sender_domain text, dt date);"),
];

/// Each worker has the configuration, the queue and the rights that the stacks give it.
#[tokio::test(flavor = "multi_thread")]
async fn objects_go_through_two_steps_by_the_queues_and_pools_of_their_stacks() -> Result<()> {
    let site = Site::with(&STEP).await?;
    let (queue, importers) = (&site.steps[0].0, &site.steps[0].1);
    assert!(queue["QueueUrl"].ends_with("/penstock-sender-domains-imports"), "{queue:?}");
    let named = [("AlarmNamePrefix".to_owned(), "penstock-sender-domains".to_owned())];
    let alarms = site.account.query("monitoring", "DescribeAlarms", &named).await?;
    let mut found = texts(&alarms, "AlarmName");
    found.sort();
    assert_eq!(found, ["penstock-sender-domains-dead-letters", "penstock-sender-domains-oldest-message"]);
    assert!(alarms.contains("<Threshold>14400"), "{alarms}");
    for role in [&site.importers["RoleName"], &importers["RoleName"]] {
        let policy = [("RoleName", role.as_str()), ("PolicyName", "queue")];
        let policy = site.document("GetRolePolicy", "PolicyDocument", &policy).await?;
        let may_send_to = site.all_queues()?;
        assert!(policy.contains(&may_send_to) && policy.contains("sns:Publish"), "{policy}");
        let named = [("RoleName".to_owned(), role.clone())];
        let reads = texts(&site.account.query("iam", "ListAttachedRolePolicies", &named).await?, "PolicyArn");
        assert_eq!(reads.len(), 2, "the right to read both datasets' objects: {reads:?}");
    }

    let telemetry =
        "{\"event_id\": 1, \"observed_at\": \"2026-01-31T10:00:00Z\", \"sender_domain\": \"example.org\"}\n";
    site.account.put(&site.bucket("telemetry"), "dt=2026-01-31/a.ndjson", telemetry).await?;
    site.wait_for_messages(1).await?;
    site.drain().await?;
    let step = || {
        let run = site.importer("run").args(["--until-empty", "--queue", "sender_domains"]);
        run.env("QUEUE_URL", &queue["QueueUrl"])
    };
    assert_eq!(site.database.value("SELECT count(*) FROM sender_domain").await?, "0", "not by the first pool");
    step().start()?.finish(LIMIT).await?;
    let rows = "SELECT event_id, sender_domain, dt FROM sender_domain";
    assert_eq!(site.database.rows(rows).await?, ["1 | example.org | 2026-01-31"]);
    assert_eq!(site.database.value("SELECT count(*) FROM penstock.due").await?, "0");

    // The scaler finds each pool under the name that the step's stacks gave it, and its queue.
    let pools = fs::read_to_string(site.scratch.path().join("pools.toml"))?;
    let first = format!(
        "[[pool]]\nname = \"importers\"\nqueue_urls = [\"{}\"]\nmax = 4\ndrain_within = \"15m\"\n\
         slots_per_worker = 4\n[pool.workers]\nkind = \"asg\"\ngroup = \"penstock-importers\"\n",
        site.queue["QueueUrl"]
    );
    let scaler = site.scratch.write("scaler.toml", first + &pools)?;
    let check = Program::new("scaler").arg("check").arg("--config").arg(&scaler);
    let checked = check.env("DATABASE_URL", site.database.url()).envs(site.account.variables()).run(LIMIT).await?;
    assert!(checked.status.success(), "{}{}", checked.stdout, checked.stderr);
    assert!(
        ["importers", "sender_domains"].iter().all(|pool| checked.stdout.contains(&format!("pool {pool}: "))),
        "{}",
        checked.stdout
    );
    Ok(())
}

/// Returns a template without one entry of a section.
fn without(text: &str, section: &str, entry: &str) -> String {
    let mut inside = "";
    let mut left_out = false;
    let kept = text.lines().filter(|line| {
        let level = line.len() - line.trim_start().len();
        if level == 0 && !line.is_empty() {
            inside = line;
        }
        if level <= 2 && !line.is_empty() {
            left_out = inside == section && *line == entry;
        }
        !left_out
    });
    kept.map(|line| line.to_owned() + "\n").collect()
}

/// An account with the queue's stack, the importers' and those of all datasets.
struct Site {
    account: Account,
    database: Database,
    queue: Outputs,
    importers: Outputs,
    /// Of each step that has a queue of its own: the queue's outputs and the importers'.
    steps: Vec<(Outputs, Outputs)>,
    vpc: String,
    subnet: String,
    config: PathBuf,
    scratch: Scratch,
}

impl Site {
    async fn new() -> Result<Self> {
        Self::with(&[]).await
    }

    /// As [`Self::new`] with a directory more in `datasets`, of these files.
    async fn with(step: &[(&str, &str)]) -> Result<Self> {
        let account = Account::new().await?;
        let database = Postgres::shared()?.create_database().await?;
        let scratch = Scratch::new("stacks")?;
        let datasets = scratch.path().join("datasets");
        copy(&directory().join("datasets"), &datasets)?;
        for (file, content) in step {
            fs::create_dir_all(datasets.join("sender_domains"))?;
            fs::write(datasets.join("sender_domains").join(file), content)?;
        }
        for entry in fs::read_dir(&datasets)? {
            database.execute(&fs::read_to_string(entry?.path().join("table.sql"))?).await?;
        }

        let vpcs = account.query("ec2", "DescribeVpcs", &[]).await?;
        let vpc = texts(&vpcs, "vpcId").into_iter().next().context("the account has no VPC")?;
        let subnets = account.query("ec2", "DescribeSubnets", &[]).await?;
        let subnet = texts(&subnets, "subnetId").into_iter().next().context("the account has no subnet")?;
        let mut site = Self {
            account,
            database,
            queue: Outputs::new(),
            importers: Outputs::new(),
            steps: Vec::new(),
            vpc,
            subnet,
            config: PathBuf::new(),
            scratch,
        };
        site.queue = site.create("penstock-queue", "queue.yaml", &[]).await?;
        let lists = site.assemble(&datasets)?;
        let due = site.all_queues()? + ",arn:aws:sns:eu-west-1:123456789012:imports";
        let importers = [
            ("VpcId", site.vpc.as_str()),
            ("SubnetIds", site.subnet.as_str()),
            ("ImageId", IMAGE),
            ("QueueUrl", site.queue["QueueUrl"].as_str()),
            ("QueueArn", site.queue["QueueArn"].as_str()),
            ("DeadLetterQueueArn", site.queue["DeadLetterQueueArn"].as_str()),
            ("ArtifactsBucket", "example-artifacts"),
            ("DatabaseUrlSecretArn", SECRET),
            ("DueArns", due.as_str()),
        ];
        site.importers = site.create("penstock-importers", "importers-asg.yaml", &importers).await?;
        site.create_partners_bucket().await?;
        let [queues, pools, sources] = lists;
        for (queue, pool) in queues.lines().zip(pools.lines()) {
            let queue = site.create_listed(queue, &[]).await?;
            let common = [
                ("VpcId", site.vpc.as_str()),
                ("SubnetIds", site.subnet.as_str()),
                ("Image", "penstock:test"),
                ("QueueUrl", queue["QueueUrl"].as_str()),
                ("QueueArn", queue["QueueArn"].as_str()),
                ("DeadLetterQueueArn", queue["DeadLetterQueueArn"].as_str()),
                ("DatabaseUrlSecretArn", SECRET),
                ("DueArns", due.as_str()),
            ];
            let importers = site.create_listed(pool, &common).await?;
            site.steps.push((queue, importers));
        }
        let importers = [&site.importers].into_iter().chain(site.steps.iter().map(|(_, importers)| importers));
        let roles: Vec<&str> = importers.map(|importers| importers["RoleName"].as_str()).collect();
        let roles = roles.join(",");
        for line in sources.lines() {
            let common = [
                ("QueueArn", site.queue["QueueArn"].as_str()),
                ("DeadLetterQueueArn", site.queue["DeadLetterQueueArn"].as_str()),
                ("ImporterRoles", roles.as_str()),
            ];
            site.create_listed(line, &common).await?;
        }
        // The test event that S3 sends is a story of its own.
        site.account.sqs.purge_queue().queue_url(&site.queue["QueueUrl"]).send().await?;
        Ok(site)
    }

    /// Joins the pieces, and returns the lists of stacks: queues, pools, sources.
    fn assemble(&mut self, datasets: &Path) -> Result<[String; 3]> {
        let out = self.scratch.path();
        assemble(out, Some(datasets), Some(&self.queue["QueueUrl"])).map_err(anyhow::Error::msg)?;
        // Buckets share their names with all accounts, there as here.
        let unique = |file: &str| -> Result<String> {
            let text = fs::read_to_string(out.join(file))?;
            Ok(text.replace("example-", &format!("example-{}-", self.account.id())))
        };
        let settings = "\n[http]\nlisten = \"127.0.0.1:0\"\n";
        // A test does not wait for as long as a queue does.
        let config = unique("importer.toml")?.replace("\nurl =", "\nwait_secs = 1\nurl =");
        let queue = if config.contains("[[queue]]") { "" } else { "\n[queue]\nwait_secs = 1\n" };
        let lists = [unique("queues")?, unique("pools")?, unique("stacks")?];
        self.config = self.scratch.write("importer.toml", config + settings + queue)?;
        Ok(lists)
    }

    /// Returns the ARN that stands for the queues of all steps.
    fn all_queues(&self) -> Result<String> {
        let (path, name) = self.queue["QueueArn"].rsplit_once(':').context("an ARN")?;
        Ok(format!("{path}:{}", name.replace("penstock-", "penstock-*")))
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

    /// Creates what a line of a list names (the stack, its template, its parameters), with parameters more.
    async fn create_listed(&self, line: &str, more: &[(&str, &str)]) -> Result<Outputs> {
        let mut words = line.split(' ');
        let (stack, template) = (words.next().context("a name")?, words.next().context("a template")?);
        let named = words.map(|word| word.split_once('=').context("Key=Value"));
        let parameters = named.chain(more.iter().map(|named| Ok(*named))).collect::<Result<Vec<_>>>()?;
        self.create(stack, template, &parameters).await
    }

    async fn create(&self, stack: &str, template: &str, parameters: &[(&str, &str)]) -> Result<Outputs> {
        // The emulator takes a service's number for text when it comes from a parameter.
        let text =
            fs::read_to_string(directory().join(template))?.replace("DesiredCount: !Ref Scalers", "DesiredCount: 1");
        // And makes no instances by themselves.
        let text = without(&without(&text, "Resources:", "  Instance:"), "Outputs:", "  InstanceId:");
        self.account.create_stack(stack, &text, parameters).await
    }

    /// Returns the policy that IAM answers with.
    async fn document(&self, action: &str, element: &str, named: &[(&str, &str)]) -> Result<String> {
        let named: Vec<_> = named.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let policy = texts(&self.account.query("iam", action, &named).await?, element).concat();
        Ok(percent_encoding::percent_decode_str(&policy).decode_utf8()?.into_owned())
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
