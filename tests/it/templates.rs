//! What stands in `infra/aws` holds together: the templates, the table of rights, the pieces of the datasets.

use crate::containers::understands;
use penstock_tests::{aws, repository, scratch::Scratch};
use serde_norway::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A stack's file name and a right it grants.
type Grant = (String, String);

#[test]
fn cfn_lint_finds_nothing_in_any_template() {
    let python = aws::python("cfn-lint").expect("cfn-lint is installed");
    let templates = templates();
    assert!(templates.len() >= 6, "{templates:?}");
    let output =
        Command::new(python.with_file_name("cfn-lint")).arg("--").args(&templates).output().expect("it starts");
    let found = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && found.is_empty(), "{found}");
}

#[test]
fn the_table_of_rights_is_what_the_templates_grant() {
    let granted: BTreeSet<Grant> = templates().iter().flat_map(|path| grants(path)).collect();
    let told = told();
    let untold: Vec<_> = granted.difference(&told).collect();
    assert!(untold.is_empty(), "granted and not in infra/aws/README.md: {untold:?}");
    let ungranted: Vec<_> = told.difference(&granted).collect();
    assert!(ungranted.is_empty(), "in infra/aws/README.md and not granted: {ungranted:?}");
    assert!(granted.len() > 20, "{granted:?}");
}

#[test]
fn every_call_to_aws_is_one_that_some_role_may_make() {
    for (program, stacks, elsewhere) in [
        ("importer", &["importers-asg.yaml", "source-sns.yaml"][..], "none:"),
        ("importer", &["importers-ecs.yaml", "source-eventbridge.yaml"][..], "autoscaling:"),
        ("importer", &["roles-eks.yaml", "source-sns.yaml"][..], "autoscaling:"),
        ("scaler", &["scaler.yaml"][..], "none:"),
    ] {
        let granted: BTreeSet<String> =
            stacks.iter().flat_map(|stack| grants(&directory().join(stack))).map(|(_, right)| right).collect();
        let mut n_calls = 0;
        // What both programs do for each other is in a crate of its own.
        let own = sources(&repository().join(program).join("src"));
        for source in own.into_iter().chain(sources(&repository().join("service/src"))) {
            for right in calls(&fs::read_to_string(&source).expect("a source file")) {
                let enough = granted.contains(&right) || right.starts_with(elsewhere);
                assert!(enough, "{} needs {right}, which {stacks:?} do not grant", source.display());
                n_calls += 1;
            }
        }
        assert!(n_calls >= 7, "{program}: {n_calls}");
    }
}

/// SQS refuses a policy that names another queue than the one it is put on.
#[test]
fn every_queue_has_a_policy_of_its_own_about_itself_alone() {
    let resources = read(&directory().join("queue.yaml"))["Resources"].clone();
    let of_type = |wanted: &str| -> Vec<(String, Value)> {
        let all = resources.as_mapping().expect("resources").iter();
        let wanted = all.filter(|(_, resource)| resource["Type"] == wanted);
        wanted.map(|(name, resource)| (name.as_str().expect("a name").to_owned(), resource.clone())).collect()
    };
    let named = |value: &Value| match value {
        Value::Tagged(tagged) => tagged.value.as_str().expect("a name").trim_end_matches(".Arn").to_owned(),
        other => panic!("{other:?}"),
    };
    let mut with_policy = BTreeSet::new();
    for (name, policy) in of_type("AWS::SQS::QueuePolicy") {
        let queues = policy["Properties"]["Queues"].as_sequence().expect("queues");
        assert_eq!(queues.len(), 1, "{name}");
        let queue = named(&queues[0]);
        for statement in policy["Properties"]["PolicyDocument"]["Statement"].as_sequence().expect("statements") {
            assert_eq!(named(&statement["Resource"]), queue, "{name}");
        }
        assert!(with_policy.insert(queue), "{name}");
    }
    let queues: BTreeSet<String> = of_type("AWS::SQS::Queue").into_iter().map(|(name, _)| name).collect();
    assert_eq!(with_policy, queues);
    assert_eq!(queues.len(), 2);
}

/// What is only retained blocks the next try, when the creation of its stack failed.
#[test]
fn what_outlives_its_stack_does_not_outlive_a_failed_creation() {
    let mut n_kept = 0;
    for template in templates() {
        for (name, resource) in read(&template)["Resources"].as_mapping().expect("resources") {
            let holds_data = ["AWS::S3::Bucket", "AWS::SQS::Queue"].contains(&resource["Type"].as_str().unwrap_or(""));
            let policy = resource["DeletionPolicy"].as_str();
            assert_eq!(policy, holds_data.then_some("RetainExceptOnCreate"), "{}: {name:?}", template.display());
            n_kept += usize::from(holds_data);
        }
    }
    assert_eq!(n_kept, 4);
}

#[test]
fn who_reads_a_secret_or_uses_the_queues_may_use_their_keys_too() {
    for template in templates() {
        let granted: BTreeSet<String> = grants(&template).into_iter().map(|(_, right)| right).collect();
        let parameters = read(&template)["Parameters"].clone();
        let text = fs::read_to_string(&template).expect("a template");
        let uses = |right: &str| granted.contains(right);
        // The right to send that a queue gives others is of another kind: their key's policy speaks of them.
        let sends = uses("sqs:SendMessage") && !text.contains("AWS::SQS::QueuePolicy");
        for (used, key) in [(uses("secretsmanager:GetSecretValue"), "SecretKeyArn"), (sends, "QueueKeyArn")] {
            assert_eq!(!parameters[key].is_null(), used, "{}: {key}", template.display());
            let resource = format!("Resource: !Ref {key}\n");
            let decrypts = text.split("Effect: Allow").any(|part| {
                let statement = part.split("!Ref AWS::NoValue").next().unwrap_or_default();
                statement.contains("kms:Decrypt") && statement.contains(&resource)
            });
            assert_eq!(decrypts, used, "{}: {key}", template.display());
        }
    }
}

#[test]
fn a_group_on_spot_instances_has_five_types_to_choose_from() {
    let template = read(&directory().join("importers-asg.yaml"));
    let policy = &template["Resources"]["Group"]["Properties"]["MixedInstancesPolicy"];
    assert_eq!(policy["LaunchTemplate"]["Overrides"].as_sequence().expect("overrides").len(), 5);
    let more = template["Parameters"]["MoreInstanceTypes"]["Default"].as_str().expect("a default");
    let first = template["Parameters"]["InstanceType"]["Default"].as_str().expect("a default");
    let types: BTreeSet<&str> = more.split(',').chain([first]).collect();
    assert_eq!(types.len(), 5);
    // The scaler counts instances, so one is as good as another.
    assert!(types.iter().all(|kind| kind.ends_with("g.medium")), "{types:?}");
}

/// Without one of them a program in such a subnet hangs where nobody looks.
#[test]
fn a_subnet_without_a_way_out_has_an_endpoint_for_every_service() {
    let made: BTreeSet<String> = read(&directory().join("endpoints.yaml"))["Resources"]
        .as_mapping()
        .expect("resources")
        .values()
        .filter_map(|resource| match &resource["Properties"]["ServiceName"] {
            Value::Tagged(name) => Some(name.value.as_str()?.rsplit_once("${AWS::Region}.")?.1.to_owned()),
            _ => None,
        })
        .collect();
    let readme = fs::read_to_string(directory().join("README.md")).expect("infra/aws/README.md");
    let table = readme.split("| endpoint | for |").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a table");
    let told: BTreeSet<String> =
        table.lines().skip(2).flat_map(|row| coded(row.split('|').nth(1).unwrap_or(""))).collect();
    assert_eq!(told, made);
    for (stack, right) in templates().iter().flat_map(|path| grants(path)) {
        let services = match right.split(':').next().unwrap_or_default() {
            "ecr" => &["ecr.api", "ecr.dkr"][..],
            // Signed here, or asked by the service itself.
            "rds-db" | "kms" => &[],
            other => &[other],
        };
        assert!(services.iter().all(|service| made.contains(*service)), "{stack}: {right}");
    }
    // What Session Manager's own policy needs.
    assert!(made.contains("ssm") && made.contains("ssmmessages"));
}

#[test]
fn user_data_is_a_script_with_no_placeholder_left() {
    let template = read(&directory().join("importers-asg.yaml"));
    let launched = &template["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"];
    check_user_data(&template, launched);
    let template = read(&directory().join("operator-ec2.yaml"));
    check_user_data(&template, &template["Resources"]["Instance"]["Properties"]);
}

fn check_user_data(template: &Value, launched: &Value) {
    let data = &launched["UserData"]["Fn::Base64"];
    let Value::Tagged(tagged) = data else { panic!("{data:?}") };
    let text = tagged.value.as_str().expect("a text");
    let known: BTreeSet<&str> = ["Parameters", "Resources"]
        .into_iter()
        .flat_map(|section| template[section].as_mapping().expect("a section").keys().filter_map(Value::as_str))
        .chain(["AWS::Region"])
        .collect();
    let mut script = text.to_owned();
    for name in known {
        script = script.replace(&format!("${{{name}}}"), "value");
    }
    assert!(!script.contains("${"), "{script}");
    let scratch = Scratch::new("user-data").expect("a directory");
    let script = scratch.write("user-data", script).expect("written");
    let checked = Command::new("bash").arg("-n").arg(script).output().expect("bash");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn every_command_line_is_one_the_binaries_understand() {
    for (stack, task, program) in [
        ("importers-ecs.yaml", "Task", "importer"),
        ("operator-ecs.yaml", "Task", "importer"),
        ("operator-ecs.yaml", "OwnerTask", "importer"),
        ("scaler.yaml", "Task", "scaler"),
        ("scaler.yaml", "ConsoleTask", "console"),
    ] {
        let template = read(&directory().join(stack));
        let task = &template["Resources"][task]["Properties"];
        let words = task["ContainerDefinitions"][0]["Command"].as_sequence().expect("a command");
        let word = |word: &Value| match word {
            Value::Tagged(parameter) => template["Parameters"][&parameter.value]["Default"].as_str().map(str::to_owned),
            word => word.as_str().map(str::to_owned),
        };
        let words: Vec<String> = words.iter().map(|written| word(written).expect("a word")).collect();
        assert!(words[0] == program && understands(&words), "{stack}: {words:?}");
    }
    let units = fs::read_to_string(directory().join("importers-asg.yaml")).expect("text");
    let lines = units.lines().filter_map(|line| line.trim().strip_prefix("ExecStart=/usr/local/bin/importer "));
    let commands: Vec<_> = lines.map(|line| format!("importer {line}")).collect();
    assert_eq!(commands.len(), 1);
    for command in commands {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        assert!(understands(&words), "{command}");
    }
}

#[test]
fn the_joined_pieces_are_a_configuration_and_a_list_of_stacks() {
    let scratch = Scratch::new("pieces").expect("a directory");
    assemble(scratch.path(), None, None).expect("joined");
    let text = fs::read_to_string(scratch.path().join("importer.toml")).expect("importer.toml");
    let config = importer::config::Config::parse(&text, "importer.toml", |_| None).expect("a configuration");
    let named: Vec<String> = config.datasets.iter().map(|dataset| dataset.name.clone()).collect();
    let mut directories: Vec<String> = fs::read_dir(directory().join("datasets"))
        .expect("datasets")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    directories.sort();
    assert_eq!(named, directories);

    let stacks = fs::read_to_string(scratch.path().join("stacks")).expect("stacks");
    assert_eq!(stacks.lines().count(), directories.len());
    for line in stacks.lines() {
        let mut words = line.split(' ');
        let (name, template) = (words.next().expect("a name"), words.next().expect("a template"));
        let parameters = read(Path::new(template))["Parameters"].clone();
        for word in words {
            let key = word.split('=').next().expect("a key");
            assert!(!parameters[key].is_null(), "{name}: {template} has no parameter {key}");
        }
    }
}

#[test]
fn a_piece_that_does_not_fit_is_refused_by_name() {
    let good = "[[dataset]]\nname = \"a\"\nmatch = \"s3://b/**\"\ntable = \"public.t\"\nkey = [\"id\"]\n";
    for (piece, source, expected) in [
        (None, "Template=source-sns.yaml\n", "has no dataset.toml"),
        (Some("name = \"a\"\n"), "", "one [[dataset]]"),
        (Some("[[dataset]]\nname = \"b\"\n"), "", "name = \"a\" is missing"),
        (Some(good), "Bucket=b\n", "Template= is missing"),
        (Some(good), "Template=other.yaml\n", "there is no other.yaml"),
        (Some(good), "Template=source-sns.yaml\nBucket=a b\n", "no blanks"),
        (Some(good), "Template=source-sns.yaml\nbucket\n", "not Key=Value"),
    ] {
        let scratch = Scratch::new("pieces").expect("a directory");
        let dataset = scratch.path().join("datasets/a");
        fs::create_dir_all(&dataset).expect("a directory");
        if let Some(piece) = piece {
            fs::write(dataset.join("dataset.toml"), piece).expect("written");
        }
        fs::write(dataset.join("source.conf"), source).expect("written");
        let refused = assemble(&scratch.path().join("out"), Some(&scratch.path().join("datasets")), None);
        let error = refused.expect_err(expected);
        assert!(error.contains(expected), "{error}");
        assert!(!scratch.path().join("out/importer.toml").exists(), "{expected}");
    }
}

#[test]
fn a_step_whose_queue_lacks_something_is_refused_by_name() {
    let piece = "[[dataset]]\nname = \"a\"\nafter = \"b\"\nqueue = \"a\"\ntable = \"public.t\"\nkey = [\"id\"]\n";
    let files = [
        ("dataset.toml", piece),
        ("queue.conf", ""),
        ("pool.conf", "Template=importers-ecs.yaml\n"),
        ("pool.toml", "max = 1\nbacklog_per_worker = 50\n"),
    ];
    let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/penstock-imports";
    let joined = |lacking: &str, piece: &str, url: Option<&str>| {
        let scratch = Scratch::new("step").expect("a directory");
        let dataset = scratch.path().join("datasets/a");
        fs::create_dir_all(&dataset).expect("a directory");
        for (file, content) in files.iter().filter(|(file, _)| *file != lacking) {
            let content = if *file == "dataset.toml" { piece } else { content };
            fs::write(dataset.join(file), content).expect("written");
        }
        let out = scratch.path().join("out");
        assemble(&out, Some(&scratch.path().join("datasets")), url)?;
        Ok::<_, String>(["importer.toml", "queues", "pools", "pools.toml"].map(|file| {
            fs::read_to_string(out.join(file)).expect("a file").replace(&directory().display().to_string(), "…")
        }))
    };
    let refused = |lacking: &str, piece: &str, url: Option<&str>, expected: &str| {
        let error = joined(lacking, piece, url).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    };
    refused("", piece, None, "set QUEUE_URL");
    refused("pool.conf", piece, Some(url), "no pool.conf");
    refused("pool.toml", piece, Some(url), "no pool.toml");
    refused("", &piece.replace("queue = \"a\"", ""), Some(url), "queue = \"a\" is missing");

    let [config, queues, pools, pool] = joined("", piece, Some(url)).expect("joined");
    let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/penstock-a-imports";
    assert!(config.contains(&format!("[[queue]]\nname = \"a\"\nurl = \"{url}\"\n")), "{config}");
    assert_eq!(queues, "penstock-a-queue …/queue.yaml Name=penstock-a\n");
    assert_eq!(pools, "penstock-a-importers …/importers-ecs.yaml Name=penstock-a Queue=a\n");
    assert!(pool.contains(&format!("name = \"a\"\nqueue_urls = [\"{url}\"]\nmax = 1\n")), "{pool}");
    assert!(pool.ends_with("cluster = \"penstock-a-importers\"\nservice = \"penstock-a-importers\"\n"), "{pool}");
}

#[test]
fn the_database_url_is_the_secret_or_holds_a_token() {
    let ended = write_url("postgres://u:p@h/d", &[("DATABASE_SECRET", "arn:aws:secretsmanager:r:1:secret:s")]);
    assert_eq!(ended.expect("written"), "postgres://u:p@h/d\n");

    let token = "db.example:5432/?Action=connect&DBUser=u&X-Amz-Credential=A%2F20260101%2Frds-db&X-Amz-Signature=0+f";
    let place = [
        ("DATABASE_HOST", "db.example"),
        ("DATABASE_USER", "penstock_worker"),
        ("DATABASE_NAME", "warehouse"),
        ("DATABASE_CA", "/etc/penstock/ca.pem"),
    ];
    let url = write_url(token, &place).expect("written");
    let expected = "postgres://penstock_worker:db.example%3A5432%2F%3FAction%3Dconnect%26DBUser%3Du%26\
                    X-Amz-Credential%3DA%252F20260101%252Frds-db%26X-Amz-Signature%3D0%2Bf@db.example:5432/warehouse\
                    ?sslmode=verify-full&sslrootcert=/etc/penstock/ca.pem\n";
    assert_eq!(url, expected);
    let options = importer::database::connect_options(url.trim()).expect("a URL");
    let shown = (options.get_host(), options.get_port(), options.get_username(), options.get_database());
    assert_eq!(shown, ("db.example", 5432, "penstock_worker", Some("warehouse")));

    let refused = write_url("{\"username\": \"u\"}", &[("DATABASE_SECRET", "s")]).expect_err("refused");
    assert!(refused.contains("no URL") && !refused.contains("username"), "{refused}");
}

/// Runs `database-url` with an `aws` that prints `answer`; returns the file it wrote.
fn write_url(answer: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let scratch = Scratch::new("database-url").expect("a directory");
    let aws = scratch.write("aws", "#!/bin/sh\nprintf '%s\\n' \"$ANSWER\"\n").expect("written");
    fs::set_permissions(aws, fs::Permissions::from_mode(0o755)).expect("executable");
    let file = scratch.path().join("url");
    let path = format!("{}:{}", scratch.path().display(), std::env::var("PATH").expect("PATH"));
    let output = Command::new(directory().join("database-url"))
        .env_clear()
        .env("PATH", path)
        .env("ANSWER", answer)
        .env("AWS_REGION", "eu-west-1")
        .env("DATABASE_URL_FILE", &file)
        .envs(variables.iter().copied())
        .output()
        .expect("it starts");
    if !output.status.success() {
        assert!(!file.exists());
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mode = fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o077, 0, "others may read it: {mode:o}");
    Ok(fs::read_to_string(file).expect("text"))
}

/// Joins the pieces of the datasets into `out`; steps have queues beside the one of this URL.
pub fn assemble(out: &Path, datasets: Option<&Path>, queue_url: Option<&str>) -> Result<(), String> {
    let mut command = Command::new(directory().join("assemble.sh"));
    command.env_remove("QUEUE_URL").envs(queue_url.map(|url| ("QUEUE_URL", url)));
    let output = command.arg(out).args(datasets).output().expect("it starts");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Returns where the templates are.
pub fn directory() -> PathBuf {
    repository().join("infra/aws")
}

fn templates() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(template: &Path) -> Value {
    let text = fs::read_to_string(template).unwrap_or_else(|error| panic!("{}: {error}", template.display()));
    serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", template.display()))
}

/// Returns every right a template's statements allow, but for assuming roles.
fn grants(template: &Path) -> Vec<Grant> {
    let stack = template.file_name().expect("a file").to_string_lossy().into_owned();
    let mut rights = Vec::new();
    collect(&read(template)["Resources"], &mut rights);
    rights.retain(|right| !right.starts_with("sts:"));
    rights.into_iter().map(|right| (stack.clone(), right)).collect()
}

fn collect(value: &Value, rights: &mut Vec<String>) {
    match value {
        Value::Mapping(mapping) => {
            if mapping.get("Effect").and_then(Value::as_str) == Some("Allow") {
                match mapping.get("Action") {
                    Some(Value::String(right)) => rights.push(right.clone()),
                    Some(Value::Sequence(several)) => {
                        rights.extend(several.iter().map(|right| right.as_str().expect("a right").to_owned()));
                    }
                    other => panic!("an Allow without rights: {other:?}"),
                }
            }
            mapping.values().for_each(|value| collect(value, rights));
        }
        Value::Sequence(values) => values.iter().for_each(|value| collect(value, rights)),
        Value::Tagged(tagged) => collect(&tagged.value, rights),
        _ => {}
    }
}

/// Returns what the README's table of rights tells: | `stack` | `right` … | on | why |.
fn told() -> BTreeSet<Grant> {
    let readme = fs::read_to_string(directory().join("README.md")).expect("infra/aws/README.md");
    let table = readme.split("\n## Rights\n").nth(1).expect("a section on rights").split("\n## ").next();
    let mut told = BTreeMap::new();
    for row in table.expect("the section").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [stacks, rights, on, why] = cells[..] else { panic!("{row}") };
        assert!(!on.is_empty() && !why.is_empty(), "{row}");
        for stack in coded(stacks) {
            for right in coded(rights) {
                let again = told.insert((stack.clone(), right), (on, why));
                // A right may be there for several resources, each with a reason of its own.
                assert_ne!(again, Some((on, why)), "twice: {row}");
            }
        }
    }
    told.into_keys().collect()
}

/// Returns the parts between backticks.
fn coded(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Returns the rights that a file's calls through an SDK's `client` need.
fn calls(text: &str) -> BTreeSet<String> {
    let services = [
        ("aws_sdk_sqs", "sqs"),
        ("aws_sdk_s3", "s3"),
        ("aws_sdk_autoscaling", "autoscaling"),
        ("aws_sdk_ecs", "ecs"),
        ("aws_sdk_eventbridge", "events"),
    ];
    let Some((_, service)) = services.into_iter().find(|(package, _)| text.contains(package)) else {
        return BTreeSet::new();
    };
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut needed = BTreeSet::new();
    for after in text.split("client").skip(1) {
        let Some(call) = after.trim_start().strip_prefix('.') else { continue };
        let Some((name, _)) = call.split_once("()") else { continue };
        if matches!(name, "clone" | "config")
            || !name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        {
            continue;
        }
        let (service, right) = match name {
            "head_object" => (service, "GetObject".to_owned()),
            "list_objects_v2" => (service, "ListBucket".to_owned()),
            "publish" => ("sns", "Publish".to_owned()),
            // A batch is allowed by the right to the single call.
            _ => (service, pascal(name.strip_suffix("_batch").unwrap_or(name))),
        };
        needed.insert(format!("{service}:{right}"));
    }
    needed
}

fn pascal(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(capital).collect()
}
