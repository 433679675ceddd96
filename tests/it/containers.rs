//! The container files say only what the repository and the binaries can keep.

use penstock_tests::{
    aws::{self, Account},
    http,
    postgres::Postgres,
    process::{self, Program},
    scratch::Scratch,
    spawn, wait,
};
use serde_norway::Value;
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

/// Variables of the environment the programs read; everything else in the compose file would be ignored in silence.
const VARIABLES: [&str; 11] = [
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_EC2_METADATA_DISABLED",
    "DATABASE_URL",
    "IMPORTER_CONFIG",
    "SCALER_CONFIG",
    "CONSOLE_CONFIG",
    "REPORTS_DATABASE_URL",
    "QUEUE_URL",
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose() -> Value {
    let mut compose: Value = serde_norway::from_str(&read("docker-compose.yml")).expect("docker-compose.yml is YAML");
    compose.apply_merge().expect("its anchors resolve");
    compose
}

fn services() -> Vec<(String, Value)> {
    let compose = compose();
    let services = compose["services"].as_mapping().expect("services");
    services.iter().map(|(name, service)| (name.as_str().expect("a name").to_owned(), service.clone())).collect()
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_sequence().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Returns whether a program of ours understands a command line.
pub fn understands(words: &[String]) -> bool {
    let binary = process::binary(&words[0]).expect("the binary is built");
    let output = Command::new(binary).args(&words[1..]).arg("--help").output().expect("it starts");
    output.status.success()
}

#[test]
fn every_published_port_is_on_loopback() {
    let ports: Vec<String> = services().iter().flat_map(|(_, service)| texts(&service["ports"])).collect();
    assert!(!ports.is_empty());
    for port in ports {
        assert!(port.starts_with("127.0.0.1:"), "{port}");
    }
}

#[test]
fn every_file_the_container_files_name_exists() {
    let mut named = Vec::new();
    for (name, service) in services() {
        for volume in texts(&service["volumes"]) {
            let source = volume.split(':').next().unwrap_or_default();
            if source.starts_with('.') {
                named.push((name.clone(), source.to_owned()));
            } else {
                assert!(
                    compose()["volumes"].as_mapping().is_some_and(|volumes| volumes.contains_key(source)),
                    "{volume}"
                );
            }
        }
        match &service["build"] {
            Value::String(context) => named.push((name, format!("{context}/Dockerfile"))),
            Value::Mapping(_) => {
                let part = |key: &str| service["build"][key].as_str().unwrap_or_default().to_owned();
                named.push((name, format!("{}/{}", part("context"), part("dockerfile"))));
            }
            _ => assert!(service["image"].is_string(), "{name} has neither image nor build"),
        }
    }
    for (dockerfile, context) in [("Dockerfile", "."), ("infra/compose/emulator.Dockerfile", "infra/compose")] {
        for line in read(dockerfile).lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from=")) {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            let sources = &words[..words.len() - 1];
            named.extend(sources.iter().map(|source| (dockerfile.to_owned(), format!("{context}/{source}"))));
        }
    }
    assert!(named.len() > 10);
    // Cargo reads every member's manifest, whatever it builds.
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    for member in manifest["workspace"]["members"].as_array().expect("members").iter().filter_map(|m| m.as_str()) {
        let has_it =
            |(by, path): &(String, String)| by == "Dockerfile" && Path::new("./").join(member).starts_with(path);
        assert!(named.iter().any(has_it), "the image is built without {member}");
    }
    for (by, path) in named {
        assert!(top().join(&path).exists(), "{by} names {path}");
    }
}

#[test]
fn every_command_line_is_one_the_binaries_understand() {
    let mut n_checked = 0;
    for (name, service) in services() {
        let words: Vec<String> = texts(&service["entrypoint"]).into_iter().chain(texts(&service["command"])).collect();
        if words.first().is_some_and(|word| ["importer", "scaler", "console"].contains(&word.as_str())) {
            assert!(understands(&words), "{name}: {words:?}");
            n_checked += 1;
        }
    }
    // The examples in the file's comments, too.
    for line in read("docker-compose.yml").lines().filter(|line| line.contains("run --rm importer")) {
        let arguments = line.split("run --rm ").nth(1).expect("arguments").split("  #").next().unwrap_or_default();
        let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        assert!(understands(&words), "{words:?}");
        n_checked += 1;
    }
    let default = read("Dockerfile").lines().find_map(|line| line.strip_prefix("CMD ").map(str::to_owned));
    let words: Vec<String> = serde_json::from_str(&default.expect("a CMD")).expect("CMD is a JSON list");
    assert!(understands(&words), "{words:?}");
    assert!(n_checked >= 5, "{n_checked}");
}

#[test]
fn the_image_holds_static_programs_and_certificates_and_runs_as_nobody() {
    let dockerfile = read("Dockerfile");
    let (build, image) = dockerfile.rsplit_once("\nFROM ").expect("two stages");
    let makefile = read("Makefile");
    let flags = makefile.lines().find_map(|line| line.strip_prefix("dist: export RUSTFLAGS = ")).expect("flags");
    // What the image is built with is recent enough for all of them.
    let flags = flags.replace("$(packed)", "-C link-arg=-Wl,-z,pack-relative-relocs");
    assert!(flags.contains("-C target-feature=+crt-static"), "{flags}");
    assert!(makefile.contains("print \"-C link-arg=-Wl,-z,pack-relative-relocs\""), "{makefile}");
    assert!(build.contains(&format!("RUSTFLAGS=\"{flags}\"")) && build.contains("--target "), "{build}");
    assert!(build.contains("\nARG PENSTOCK_COMMIT\n"), "the commit is not passed on");
    // Anything larger than a shell would not leave the image its size.
    assert!(image.starts_with("busybox:") || image.starts_with("scratch"), "{image}");
    assert!(image.contains("/etc/ssl/certs/ca-certificates.crt\n"), "TLS has no roots");
    assert!(image.lines().any(|line| line.starts_with("USER 10001")), "{image}");
    assert!(compose()["x-penstock"]["build"]["args"]["PENSTOCK_COMMIT"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wiring_works_with_the_variables_it_gets() -> anyhow::Result<()> {
    let account = Account::new().await?;
    let python = aws::python("autoscaling")?;
    let own: Vec<(String, String)> = account.variables();
    let run = |service: &str, script: &str, arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(top().join("infra/compose").join(script)).args(arguments).env_clear();
        let compose = compose();
        let environment = compose["services"][service]["environment"].as_mapping().expect("an environment");
        for (name, value) in environment {
            let (name, value) = (name.as_str().expect("a name"), value.as_str().expect("a text"));
            // Another emulator, and another account of it.
            let is_ours = ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"].contains(&name);
            let ours = own.iter().find(|(own, _)| own == name).filter(|_| is_ours);
            command.env(name, ours.map_or(value, |(_, value)| value));
        }
        command.env("AWS_ENDPOINT_URL", account.emulator().endpoint());
        let output = command.output().expect("python starts");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let wired = run("aws", "wire.py", &[]);
    assert!(wired.starts_with("s3://landing -> arn:aws:sns:eu-west-1:"), "{wired}");
    assert_eq!(run("aws", "wire.py", &[]), wired, "running it again changes nothing");
    let file = top().join("infra/compose/wire.py").display().to_string();
    assert_eq!(run("producer", "put.py", &[&file]), "s3://landing/telemetry/wire.py");
    let url = wired.rsplit(" -> ").next().unwrap_or_default();
    let receive = [("QueueUrl".to_owned(), url.to_owned()), ("MaxNumberOfMessages".to_owned(), "10".to_owned())];
    wait::until("the object's event", Duration::from_secs(30), || async {
        let messages = account.query("sqs", "ReceiveMessage", &receive).await?;
        // What S3 sends when it tries the topic was taken out.
        assert!(!messages.contains("s3:TestEvent"), "{messages}");
        Ok(messages.contains("telemetry/wire.py").then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_emulated_aws_is_wired_whenever_it_starts_and_keeps_what_it_had() -> anyhow::Result<()> {
    let scratch = Scratch::new("aws")?;
    let python = aws::python("autoscaling")?;
    let directory = |python: &Path| python.parent().expect("a directory").display().to_string();
    let programs = format!("{}:{}", directory(&python), directory(&aws::python("queues")?));
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let start = || {
        let mut serve = Command::new(top().join("infra/compose/serve.sh"));
        serve.env_clear().env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()));
        let compose = compose();
        let environment = compose["services"]["aws"]["environment"].as_mapping().expect("an environment");
        for (name, value) in environment {
            let (name, value) = (name.as_str().expect("a name"), value.as_str().expect("a text"));
            serve.env(name, value.replace("/var/lib/aws", &scratch.path().display().to_string()));
        }
        serve.env("GATEWAY_PORT", &port).env("BIND_HOST", "127.0.0.1").env("TMPDIR", scratch.path());
        serve.stdout(Stdio::null()).stderr(Stdio::null());
        Served(serve.spawn().expect("it starts"))
    };
    let account = |what: &str| {
        let script = format!(
            "import boto3; s3 = boto3.client('s3', region_name='eu-west-1'); \
             sqs = boto3.client('sqs', region_name='eu-west-1'); {what}"
        );
        let mut command = Command::new(&python);
        command.args(["-c", &script]).env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
        command.env("AWS_ACCESS_KEY_ID", "000000000000").env("AWS_SECRET_ACCESS_KEY", "local");
        let output = command.output().expect("python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let wired = scratch.path().join("wired");
    let depth = "print(sqs.get_queue_attributes(QueueUrl=sqs.get_queue_url(QueueName='imports')['QueueUrl'], \
                 AttributeNames=['All'])['Attributes']['ApproximateNumberOfMessages'])";
    for turn in 0..2 {
        let served = start();
        wait::until("the wiring", Duration::from_secs(90), || async { Ok(wired.exists().then_some(())) }).await?;
        // Not its own test event, which would wake the pool; then the object's.
        assert_eq!(account(depth), ["0", "1"][turn]);
        let keys = account("print([o['Key'] for o in s3.list_objects_v2(Bucket='landing').get('Contents', [])])");
        assert_eq!(keys, ["[]", "['telemetry/a']"][turn]);
        if turn == 0 {
            account("s3.put_object(Bucket='landing', Key='telemetry/a', Body=b'x')");
            wait::until("the event", Duration::from_secs(30), || async { Ok((account(depth) == "1").then_some(())) })
                .await?;
        }
        served.stop()?;
        std::fs::remove_file(&wired)?;
    }
    Ok(())
}

/// A server that is stopped whatever happens.
struct Served(std::process::Child);

impl Served {
    fn stop(mut self) -> anyhow::Result<()> {
        spawn::run(Command::new("kill").args(["-TERM", &self.0.id().to_string()]))?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = spawn::run(Command::new("kill").args(["-TERM", &self.0.id().to_string()]));
        let _ = self.0.wait();
    }
}

#[test]
fn a_flag_that_does_not_exist_would_be_found() {
    assert!(!understands(&["importer".to_owned(), "run".to_owned(), "--faster".to_owned()]));
}

#[test]
fn every_variable_is_one_that_is_read() {
    for (name, service) in services() {
        if !["scaler", "importer", "console"].contains(&name.as_str()) {
            continue;
        }
        let environment = service["environment"].as_mapping().expect("an environment");
        for variable in environment.keys().filter_map(Value::as_str) {
            assert!(VARIABLES.contains(&variable), "{name}: {variable}");
        }
    }
}

#[test]
fn the_containers_configurations_are_valid() {
    let text = read("infra/compose/importer.toml");
    let environment =
        |name: &str| (name == "DATABASE_URL").then(|| "postgres://penstock@postgres/warehouse".to_owned());
    let config = importer::config::Config::parse(&text, "importer.toml", environment).expect("importer.toml");
    assert_eq!(config.datasets.len(), 1);

    let mut decide = Command::new(process::binary("scaler").expect("the binary is built"))
        .args(["decide", "--config"])
        .arg(top().join("infra/compose/scaler.toml"))
        .env("DATABASE_URL", "postgres://penstock@postgres/warehouse")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let observation = r#"{"now": "2026-01-01T00:00:00Z", "pool": {"starting": 0, "idle": 0, "busy": 0, "draining": 0}, "queue": {"visible": 100, "in_flight": 0, "delayed": 0}}"#;
    decide.stdin.take().expect("piped").write_all(observation.as_bytes()).expect("it reads");
    let output = decide.wait_with_output().expect("it ends");
    let decision: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a decision");
    assert!(decision["desired"].as_u64().is_some_and(|desired| desired >= 1), "{decision}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_of_the_containers_lets_in_who_knows_the_password_and_has_the_reports() -> anyhow::Result<()> {
    // Roles belong to the whole server, so it is one of the story's own.
    let postgres = Arc::new(tokio::task::spawn_blocking(|| Postgres::start(Default::default())).await??);
    let database = postgres.create_database().await?;
    for file in ["tables.sql", "console.sql"] {
        database.execute(&read(&format!("infra/compose/{file}"))).await?;
    }
    let limit = Duration::from_secs(30);
    let migrated = Program::new("importer").arg("migrate").env("DATABASE_URL", database.url()).run(limit).await?;
    assert!(migrated.status.success(), "{}", migrated.stderr);
    let text = read("infra/compose/console.toml");
    assert!(text.contains("listen = \"0.0.0.0:9466\""), "{text}");
    let text = text
        .replace("0.0.0.0:9466", "127.0.0.1:0")
        .replace("/etc/penstock/reports", &top().join("examples/reports").display().to_string())
        .replace("/etc/penstock/", &format!("{}/", top().join("infra/compose").display()));
    let scratch = Scratch::new("console")?;
    let file = scratch.write("console.toml", text)?;
    // The compose file's own variables, with another place of the database.
    let environment = compose()["services"]["console"]["environment"].clone();
    let place = format!("{}/{}", postgres.host_and_port(), database.name());
    let url = |name: &str| environment[name].as_str().unwrap_or_default().replace("postgres:5432/warehouse", &place);
    let console = |command| {
        let program = Program::new("console").args([command, "--log-format", "json", "--config"]).arg(&file);
        program.env("DATABASE_URL", url("DATABASE_URL")).env("REPORTS_DATABASE_URL", url("REPORTS_DATABASE_URL"))
    };
    let checked = console("check").run(limit).await?;
    assert!(checked.stdout.ends_with("0 wrong, 0 to consider\n"), "{}{}", checked.stdout, checked.stderr);
    let console = console("run").start()?;
    let line: serde_json::Value = serde_json::from_str(&console.wait_for_line("serving health", limit).await?)?;
    let pages = format!("http://{}", line["listen"].as_str().unwrap_or_default());
    assert_eq!(http::get(&format!("{pages}/reports")).await?.status, 401);
    // penstock:penstock
    let login = [("Authorization", "Basic cGVuc3RvY2s6cGVuc3RvY2s=")];
    for report in ["messages", "failing"] {
        let answer = http::request("GET", &format!("{pages}/reports/{report}"), &login, "").await?;
        assert!(answer.status == 200 && answer.body.contains("No rows."), "{report}: {}", answer.body);
    }
    Ok(())
}

#[test]
fn the_compose_table_is_the_demos() {
    let columns = |sql: &str| -> Vec<String> {
        sql.lines()
            .filter(|line| line.starts_with("    "))
            .map(|line| line.trim().trim_end_matches(',').to_owned())
            .collect()
    };
    assert_eq!(columns(&read("infra/compose/tables.sql")), columns(penstock_tests::telemetry::TABLE));
}

#[test]
fn the_demo_the_guide_and_the_containers_say_why_a_first_file_may_wait() {
    let why = "One or two messages wake a sleeping pool at a second look only";
    let concept = read("docs/concepts/scaling.md");
    let (table, _) = concept
        .split_once("## What wakes a sleeping pool")
        .and_then(|(_, section)| section.split_once("\n## "))
        .expect("the section");
    assert!(table.contains(why));
    for page in ["docker-compose.yml", "docs/guides/testing.md", "tests/src/bin/demo/main.rs"] {
        let text = read(page);
        assert!(text.contains(why) && text.contains("scaling.md#what-wakes-a-sleeping-pool"), "{page}");
    }
    let mut n_rows = 0;
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let promise = cells[1].split('`').nth(1).expect("a setting");
        let (start_up, wait_secs) = (cells[2].trim_matches('`'), cells[3].trim_end_matches(" s"));
        assert_eq!(first_wait_secs(promise, start_up), wait_secs.parse::<u32>().expect("seconds"), "{row}");
        n_rows += 1;
    }
    assert!(n_rows > 3, "{table}");
    // What the compose file and its guide promise.
    let scaler: toml::Table = read("infra/compose/scaler.toml").parse().expect("scaler.toml is TOML");
    let of_pool = |name: &str| scaler["pool"][0][name].as_str().expect("a text").to_owned();
    let waits = first_wait_secs(&format!("drain_within = \"{}\"", of_pool("drain_within")), &of_pool("start_up"));
    assert!(read("docker-compose.yml").contains(&format!("here after {waits} s")));
    assert!(read("docs/guides/testing.md").contains(&format!("waits for {waits} s")));
    let demo = read("tests/src/bin/demo/main.rs");
    assert!(demo.contains(&format!("here after {} s", first_wait_secs("drain_within = \"90s\"", "3s"))));
    let pool = read("tests/src/bin/demo/pool.rs");
    assert!(pool.contains("drain_within = \"90s\"") && pool.contains("start_up = \"3s\""));
}

/// Returns how long a pool with such a promise lets a single message wait before it wakes.
fn first_wait_secs(promise: &str, start_up: &str) -> u32 {
    let scratch = Scratch::new("waits").expect("a directory");
    let pool = format!(
        "[[pool]]\nname = \"a\"\nqueue_urls = [\"http://127.0.0.1:9/1/q\"]\nmax = 1\n{promise}\nstart_up = \"{start_up}\"\n\
         [pool.workers]\nkind = \"dry_run\"\n"
    );
    let file = scratch.write("scaler.toml", pool).expect("it is written");
    let mut decide = Command::new(process::binary("scaler").expect("the binary is built"));
    decide.args(["decide", "--config"]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut decide = decide.spawn().expect("it starts");
    let observation = r#"{"now": "2026-01-01T00:00:00Z", "pool": {"starting": 0, "idle": 0, "busy": 0, "draining": 0}, "queue": {"visible": 1, "in_flight": 0, "delayed": 0}}"#;
    decide.stdin.take().expect("piped").write_all(observation.as_bytes()).expect("it reads");
    let output = decide.wait_with_output().expect("it ends");
    let decision: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a decision");
    if decision["desired"] == 1 {
        return 0;
    }
    let explain = decision["explain"].as_str().unwrap_or_default();
    let (_, wait) = explain.rsplit_once("must still be there in ").unwrap_or_else(|| panic!("{decision}"));
    let wait = wait.split(',').next().unwrap_or_default();
    let wait = service::time::duration(wait).unwrap_or_else(|error| panic!("{wait}: {error}"));
    u32::try_from(wait.as_secs()).expect("not long")
}
