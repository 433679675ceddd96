//! `infra/kubernetes/`: it renders, the API's schemas accept it, and its parts fit each other and the programs.

use anyhow::{Context as _, Result, ensure};
use penstock_tests::{aws, process, repository, scratch::Scratch, spawn, tools};
use serde_norway::Value;
use std::{collections::BTreeSet, fs, process::Command};

/// Everything the guides ask the reader to make by hand.
const SECRETS: [&str; 5] =
    ["penstock-importer", "penstock-scaler", "penstock-console", "penstock-owner", "penstock-aws"];

/// The oldest version the guide names, and a recent one.
const VERSIONS: [&str; 2] = ["1.25", "1.35"];

#[test]
fn what_renders_is_what_the_api_knows() -> Result<()> {
    for (directory, kinds) in [
        (
            "infra/kubernetes",
            "ConfigMap ConfigMap ConfigMap CronJob Deployment Deployment Deployment Namespace NetworkPolicy \
             NetworkPolicy NetworkPolicy PodDisruptionBudget Role RoleBinding Service ServiceAccount ServiceAccount \
             ServiceAccount ServiceAccount",
        ),
        ("infra/kubernetes/migrate", "Job"),
    ] {
        let text = render(directory)?;
        validate(&text)?;
        let mut found: Vec<String> = documents(&text)?.iter().map(|document| string(&document["kind"])).collect();
        found.sort();
        assert_eq!(found.join(" "), kinds);
    }
    Ok(())
}

#[test]
fn a_field_the_api_does_not_know_would_be_found() -> Result<()> {
    let text = render("infra/kubernetes")?;
    for (from, to) in [
        ("terminationGracePeriodSeconds:", "terminationGraceSeconds:"),
        ("periodSeconds: 20", "periodSeconds: often"),
        ("verbs:", "verb:"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(validate(&text.replacen(from, to, 1)).is_err(), "{to} was accepted");
    }
    Ok(())
}

#[test]
fn the_scaler_has_the_rights_it_uses_and_no_other_and_importers_have_none() -> Result<()> {
    let documents = documents(&render("infra/kubernetes")?)?;
    let role = find(&documents, "Role", "penstock-scaler")?;
    let rules: BTreeSet<String> = list(&role["rules"])
        .iter()
        .map(|rule| {
            let words = |name: &str| list(&rule[name]).iter().map(string).collect::<Vec<_>>().join(",");
            format!("{} {} {} {}", words("apiGroups"), words("resources"), words("resourceNames"), words("verbs"))
        })
        .collect();
    let expected = [
        "apps deployments/scale penstock-importer get,patch",
        "apps deployments penstock-importer get",
        " pods  list,patch,delete",
    ];
    assert_eq!(rules, expected.map(str::to_owned).into());
    let binding = find(&documents, "RoleBinding", "penstock-scaler")?;
    assert_eq!(
        list(&binding["subjects"]).iter().map(|subject| string(&subject["name"])).collect::<Vec<_>>(),
        ["penstock-scaler"]
    );
    assert_eq!(list(&binding["subjects"])[0]["namespace"], "penstock");
    let importers = pod(find(&documents, "Deployment", "penstock-importer")?);
    assert_eq!(importers["automountServiceAccountToken"], false);
    Ok(())
}

#[test]
fn pods_fit_their_configuration_and_what_they_mount_exists() -> Result<()> {
    let documents = documents(&render("infra/kubernetes")?)?;
    for (name, port) in [("penstock-importer", 9464), ("penstock-scaler", 9465), ("penstock-console", 9466)] {
        let deployment = find(&documents, "Deployment", name)?;
        let template = &deployment["spec"]["template"];
        let pod = &template["spec"];
        let container = &list(&pod["containers"])[0];
        let annotations = &template["metadata"]["annotations"];
        // The console has no metrics, and its port another name: whoever scrapes is not let in by it.
        let has_metrics = name != "penstock-console";
        if has_metrics {
            assert_eq!(annotations["prometheus.io/scrape"], "true", "{name}");
            assert_eq!(annotations["prometheus.io/path"], "/metrics", "{name}");
            assert_eq!(annotations["prometheus.io/port"], port.to_string(), "{name}");
        }
        let (port_name, ready) = if has_metrics { ("http", "/readyz") } else { ("pages", "/healthz") };
        let ports = list(&container["ports"]);
        assert_eq!((&ports[0]["name"], ports[0]["containerPort"].as_u64()), (&port_name.into(), Some(port)), "{name}");
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", ready)] {
            assert_eq!(container[probe]["httpGet"]["path"], path, "{name}");
            assert_eq!(container[probe]["httpGet"]["port"], port_name, "{name}");
        }
        understood(container)?;
        locked_in(pod, container);
        find(&documents, "ServiceAccount", &string(&pod["serviceAccountName"]))?;
        for volume in list(&pod["volumes"]) {
            if let Some(secret) = volume["secret"]["secretName"].as_str() {
                assert!(SECRETS.contains(&secret), "{name} mounts {secret}");
            } else {
                find(&documents, "ConfigMap", &string(&volume["configMap"]["name"]))?;
            }
        }
        let file = name.trim_start_matches("penstock-");
        let text = config(&documents, file)?;
        assert!(text.contains(&format!("listen = \"0.0.0.0:{port}\"")), "{name}: {text}");
    }
    let job = find(&self::documents(&render("infra/kubernetes/migrate")?)?, "Job", "penstock-migrate")?.clone();
    understood(&list(&pod(&job)["containers"])[0])?;
    locked_in(pod(&job), &list(&pod(&job)["containers"])[0]);
    Ok(())
}

#[test]
fn a_busy_importer_is_not_what_others_end_to_save_a_node() -> Result<()> {
    let documents = documents(&render("infra/kubernetes")?)?;
    let importer = find(&documents, "Deployment", "penstock-importer")?;
    let annotations = &importer["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["karpenter.sh/do-not-disrupt"], "true");
    assert_eq!(annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"], "false");
    let budget = &find(&documents, "PodDisruptionBudget", "penstock-importer")?["spec"];
    assert_eq!(budget["selector"], importer["spec"]["selector"]);
    // Nodes can still be emptied when there is one importer: a quarter of one is rounded up.
    assert_eq!(budget["maxUnavailable"], "25%");
    Ok(())
}

#[test]
fn commands_have_a_place_that_never_runs_by_itself() -> Result<()> {
    let documents = documents(&render("infra/kubernetes")?)?;
    let place = &find(&documents, "CronJob", "penstock-operator")?["spec"];
    assert_eq!(place["suspend"], true);
    assert_eq!(place["jobTemplate"]["spec"]["backoffLimit"], 0, "a command that failed is not repeated");
    let pod = &place["jobTemplate"]["spec"]["template"]["spec"];
    let container = &list(&pod["containers"])[0];
    understood(container)?;
    locked_in(pod, container);
    let importer = self::pod(find(&documents, "Deployment", "penstock-importer")?);
    // The same configuration, database and keys.
    assert_eq!(pod["volumes"], importer["volumes"]);
    for same in ["env", "envFrom", "volumeMounts"] {
        assert_eq!(container[same], list(&importer["containers"])[0][same], "{same}");
    }

    // It is no importer: the scaler would count it for one, and end it.
    let labels = &place["jobTemplate"]["spec"]["template"]["metadata"]["labels"];
    let importers = &find(&documents, "Deployment", "penstock-importer")?["spec"]["selector"]["matchLabels"];
    assert_ne!(labels["app.kubernetes.io/name"], importers["app.kubernetes.io/name"]);

    // The guides' ways to give it a command, and a schedule.
    let guide = |name: &str| fs::read_to_string(repository().join("docs/guides").join(name));
    let job = serde_json::json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"},
        "spec": serde_json::to_value(&place["jobTemplate"]["spec"])?});
    let text = guide("kubernetes.md")?;
    let patch = text.split("--patch='").nth(1).and_then(|rest| rest.split('\'').next()).context("a patch")?;
    reconciles(&patched(&job, patch)?["spec"])?;
    let text = guide("pipelines.md")?;
    let patch = text.split("    patch: |-\n").nth(1).and_then(|rest| rest.split("```").next()).context("a patch")?;
    let cron = find(&documents, "CronJob", "penstock-operator")?;
    let scheduled = &patched(&serde_json::to_value(cron)?, patch)?["spec"];
    assert_eq!((&scheduled["suspend"], &scheduled["schedule"]), (&false.into(), &"0 3 * * *".into()));
    reconciles(&scheduled["jobTemplate"]["spec"])?;
    Ok(())
}

/// Returns an object with a patch of a guide.
fn patched(object: &serde_json::Value, patch: &str) -> Result<serde_json::Value> {
    let scratch = Scratch::new("patched")?;
    let file = scratch.write("object.json", object.to_string())?;
    let mut command = Command::new(tools::kubectl()?);
    command.args(["patch", "--local", "--type=json", "--output=json", &format!("--patch={patch}"), "--filename"]);
    Ok(serde_json::from_str(&spawn::run(command.arg(file))?)?)
}

fn reconciles(job: &serde_json::Value) -> Result<()> {
    let container = &job["template"]["spec"]["containers"][0];
    assert_eq!((&container["command"][0], &container["args"][0]), (&"importer".into(), &"reconcile".into()), "{job}");
    understood(&serde_norway::to_value(container)?)
}

#[test]
fn a_pod_monitor_finds_the_pods_that_have_metrics_by_their_port() -> Result<()> {
    let monitors = documents(&render("infra/kubernetes/podmonitor")?)?;
    let monitor = &find(&monitors, "PodMonitor", "penstock")?["spec"];
    assert_eq!(list(&monitor["podMetricsEndpoints"])[0]["port"], "http");
    let selected = monitor["selector"]["matchLabels"].as_mapping().context("a selector")?;
    let documents = documents(&render("infra/kubernetes")?)?;
    for name in ["penstock-importer", "penstock-scaler"] {
        let template = &find(&documents, "Deployment", name)?["spec"]["template"];
        assert!(selected.iter().all(|(label, value)| &template["metadata"]["labels"][label] == value), "{name}");
        assert_eq!(list(&list(&template["spec"]["containers"])[0]["ports"])[0]["name"], "http", "{name}");
    }
    Ok(())
}

/// KEDA starts Jobs, which end by themselves, of what the Deployment's pods are.
#[test]
fn keda_s_jobs_are_the_importers_pods_and_have_their_configuration() -> Result<()> {
    let scratch = Scratch::new("keda")?;
    std::os::unix::fs::symlink(repository(), scratch.path().join("penstock"))?;
    // An overlay as the guide's, in words that kustomize knew always.
    let overlay = "bases:\n  - penstock/infra/kubernetes\n  - penstock/infra/kubernetes/keda\n\
                   configMapGenerator:\n  - name: penstock-importer-config\n    behavior: merge\n    files: [importer.toml]\n";
    scratch.write("kustomization.yaml", overlay)?;
    scratch.write("importer.toml", "# mine\n")?;
    let kubectl = tools::kubectl()?;
    let text = spawn::run(Command::new(kubectl).current_dir(scratch.path()).args(["kustomize", "."]))?;
    let documents = documents(&text)?;
    let scaled = &find(&documents, "ScaledJob", "penstock-importer")?["spec"];
    let job = &scaled["jobTargetRef"]["template"]["spec"];
    let importer = pod(find(&documents, "Deployment", "penstock-importer")?);
    let differs = |name: &str| ["restartPolicy", "containers"].contains(&name);
    for (name, value) in importer.as_mapping().context("a pod")?.iter().filter(|(name, _)| !differs(&string(name))) {
        assert_eq!(&job[name], value, "{name:?}");
    }
    assert_eq!(job["restartPolicy"], "Never");
    let (own, theirs) = (&list(&job["containers"])[0], &list(&importer["containers"])[0]);
    for (name, value) in theirs.as_mapping().context("a container")?.iter().filter(|(name, _)| *name != "args") {
        assert_eq!(&own[name], value, "{name:?}");
    }
    assert_eq!(list(&own["args"])[0], "--until-empty");
    understood(own)?;
    locked_in(job, own);
    // The configuration is the overlay's, under the name it has today.
    let name = string(&list(&job["volumes"])[0]["configMap"]["name"]);
    assert!(string(&find(&documents, "ConfigMap", &name)?["data"]["importer.toml"]).starts_with("# mine"), "{name}");

    // The scaler's bounds, and a queue's worth for one importer.
    let trigger = &list(&scaled["triggers"])[0];
    assert_eq!(trigger["type"], "aws-sqs-queue");
    let scaler: toml::Value = toml::from_str(&config(&documents, "scaler")?)?;
    assert_eq!(scaler["pool"][0]["max"].as_integer(), scaled["maxReplicaCount"].as_i64());
    assert_eq!(scaler["pool"][0]["queue_urls"][0].as_str(), trigger["metadata"]["queueURL"].as_str());
    let authentication = string(&trigger["authenticationRef"]["name"]);
    find(&documents, "TriggerAuthentication", &authentication)?;
    Ok(())
}

#[test]
fn a_stop_leaves_time_to_drain_and_the_pool_is_the_deployment() -> Result<()> {
    let documents = documents(&render("infra/kubernetes")?)?;
    let text = config(&documents, "importer")?;
    let importer = importer::config::Config::parse(&text, "importer.toml", |_| None)?;
    let deployment = find(&documents, "Deployment", "penstock-importer")?;
    let grace_secs = pod(deployment)["terminationGracePeriodSeconds"].as_u64().context("a grace period")?;
    assert!(grace_secs > u64::from(importer.worker.drain_timeout_secs) + 5, "{grace_secs}");
    assert!(deployment["spec"]["replicas"].is_null(), "applying the file again would undo what the scaler set");

    let scaler: toml::Value = toml::from_str(&config(&documents, "scaler")?)?;
    let pool = &scaler["pool"][0];
    assert_eq!(pool["workers"]["kind"].as_str(), Some("kubernetes"));
    assert_eq!(pool["workers"]["deployment"].as_str(), Some("penstock-importer"));
    assert_eq!(pool["slots_per_worker"].as_integer(), Some(importer.worker.concurrency.into()));
    assert_eq!(pool["queue_urls"][0].as_str(), importer.queue.url.as_deref());
    let scratch = Scratch::new("kubernetes")?;
    let file = scratch.write("scaler.toml", config(&documents, "scaler")?)?;
    let mut decide = Command::new(process::binary("scaler")?);
    spawn::run(decide.args(["decide", "--stream", "--config"]).arg(file))
        .context("the scaler reads its configuration")?;
    Ok(())
}

#[test]
fn the_console_s_service_and_configuration_fit_its_pod() -> Result<()> {
    let documents = documents(&render("infra/kubernetes")?)?;
    let service = find(&documents, "Service", "penstock-console")?;
    let pod_labels = &find(&documents, "Deployment", "penstock-console")?["spec"]["template"]["metadata"]["labels"];
    for (name, value) in service["spec"]["selector"].as_mapping().context("a selector")? {
        assert_eq!(&pod_labels[name], value);
    }
    let port = &list(&service["spec"]["ports"])[0];
    assert_eq!((&port["port"], &port["targetPort"]), (&9466.into(), &"pages".into()));
    assert!(service["spec"]["type"].is_null(), "no way in from outside the cluster unless somebody makes one");
    // It takes its configuration, which names the passwords of the secret.
    let scratch = Scratch::new("kubernetes")?;
    let text = config(&documents, "console")?;
    let file = scratch.write("console.toml", text.replace("/run/secrets/penstock", "."))?;
    let line = Command::new("sh")
        .args(["-c", "echo secret | \"$0\" password ann"])
        .arg(process::binary("console")?)
        .output()?;
    scratch.write("passwords", line.stdout)?;
    let check = Command::new(process::binary("console")?)
        .current_dir(scratch.path())
        .env("DATABASE_URL", "postgres://u@127.0.0.1:1/d")
        .args(["check", "--config"])
        .arg(file)
        .output()?;
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(said.contains("auth: 1 passwords") && said.contains("wrong: database: "), "{said}");
    Ok(())
}

#[test]
fn the_network_policies_are_about_our_pods_and_let_nobody_in_but_the_monitoring() -> Result<()> {
    let documents = documents(&render("infra/kubernetes")?)?;
    let labels: BTreeSet<String> = documents
        .iter()
        .filter_map(|document| document["spec"]["template"]["metadata"]["labels"].as_mapping())
        .flatten()
        .map(|(name, value)| format!("{}={}", string(name), string(value)))
        .collect();
    for policy in documents.iter().filter(|document| document["kind"] == "NetworkPolicy") {
        let selector = policy["spec"]["podSelector"]["matchLabels"].as_mapping().context("a selector")?;
        for (name, value) in selector {
            let label = format!("{}={}", string(name), string(value));
            assert!(labels.contains(&label), "no pod has {label}");
        }
        for rule in list(&policy["spec"]["ingress"]) {
            assert!(!list(&rule["from"]).is_empty() && !list(&rule["ports"]).is_empty(), "{rule:?}");
        }
    }
    let whole = find(&documents, "NetworkPolicy", "penstock")?;
    assert_eq!(list(&whole["spec"]["policyTypes"]).iter().map(string).collect::<Vec<_>>(), ["Ingress", "Egress"]);
    Ok(())
}

#[test]
fn the_guides_overlay_changes_image_namespace_and_configuration() -> Result<()> {
    let guide = fs::read_to_string(repository().join("docs/guides/kubernetes.md"))?;
    let overlay = guide.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).context("an overlay")?;
    // kustomize before 2.1, as in Debian's kubectl, keeps directories apart from files; later ones know the word still.
    let base = repository().join("infra/kubernetes");
    ensure!(overlay.contains("resources:\n  - ../../infra/kubernetes\n"), "{overlay}");
    let scratch = Scratch::new("overlay")?;
    std::os::unix::fs::symlink(repository(), scratch.path().join("penstock"))?;
    // And takes patches from files alone.
    let (overlay, patch) = overlay.split_once("# patches:\n#   - patch: |-\n").context("a patch")?;
    let overlay = overlay.replace("resources:\n  - ../../infra/", "bases:\n  - penstock/infra/");
    let overlay = overlay.replace("namespace: penstock ", "namespace: imports ");
    scratch.write("kustomization.yaml", overlay + "patchesStrategicMerge: [patch.yaml]\n")?;
    let patch: Vec<&str> = patch.lines().map(|line| line.strip_prefix("#       ").unwrap_or(line)).collect();
    scratch.write("patch.yaml", patch.join("\n"))?;
    scratch.write("importer.toml", "# mine\n[queue]\n")?;
    for file in ["scaler.toml", "console.toml"] {
        scratch.write(file, fs::read_to_string(base.join(file))?)?;
    }
    let kubectl = tools::kubectl()?;
    let text = spawn::run(Command::new(kubectl).current_dir(scratch.path()).args(["kustomize", "."]))?;
    validate(&text)?;
    let documents = documents(&text)?;
    assert!(config(&documents, "importer")?.starts_with("# mine"));
    for name in ["penstock-importer", "penstock-scaler", "penstock-console"] {
        let deployment = find(&documents, "Deployment", name)?;
        assert_eq!(deployment["metadata"]["namespace"], "imports");
        let image = string(&list(&pod(deployment)["containers"])[0]["image"]);
        assert!(image.starts_with("registry.example.com/penstock:"), "{image}");
    }
    assert_eq!(list(&find(&documents, "RoleBinding", "penstock-scaler")?["subjects"])[0]["namespace"], "imports");
    let annotations = &find(&documents, "ServiceAccount", "penstock-importer")?["metadata"]["annotations"];
    assert!(string(&annotations["eks.amazonaws.com/role-arn"]).starts_with("arn:aws:iam::"), "{annotations:?}");
    Ok(())
}

/// A container without root, without rights and with a file system it cannot write to.
fn locked_in(pod: &Value, container: &Value) {
    let (whole, own) = (&pod["securityContext"], &container["securityContext"]);
    assert_eq!(whole["runAsNonRoot"], true);
    assert_eq!(whole["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(own["allowPrivilegeEscalation"], false);
    assert_eq!(own["readOnlyRootFilesystem"], true);
    assert_eq!(own["capabilities"]["drop"][0], "ALL");
    assert!(container["resources"]["limits"]["memory"].is_string(), "{container:?}");
}

/// Fails unless the program takes the container's command line.
pub fn understood(container: &Value) -> Result<()> {
    let words: Vec<String> =
        list(&container["command"]).iter().chain(list(&container["args"]).iter()).map(string).collect();
    let (program, arguments) = words.split_first().context("a command")?;
    spawn::run(Command::new(process::binary(program)?).args(arguments).arg("--help"))?;
    Ok(())
}

pub fn render(directory: &str) -> Result<String> {
    spawn::run(Command::new(tools::kubectl()?).current_dir(repository()).args(["kustomize", directory]))
}

/// Holds rendered objects against the API's own schemas, unknown fields refused.
pub fn validate(text: &str) -> Result<()> {
    let python = aws::python("kubernetes")?;
    let scratch = Scratch::new("kubernetes")?;
    let file = scratch.write("rendered.yaml", text)?;
    let validator = python.with_file_name("kubernetes-validate");
    for version in VERSIONS {
        let said = spawn::run(Command::new(&validator).args(["--strict", "-k", version]).arg(&file))?;
        let n_passed = said.lines().filter(|line| line.contains(" passed ")).count();
        ensure!(n_passed == documents(text)?.len(), "{said}");
    }
    Ok(())
}

pub fn documents(text: &str) -> Result<Vec<Value>> {
    text.split("\n---\n").map(|document| serde_norway::from_str(document).context(document.to_owned())).collect()
}

pub fn find<'a>(documents: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let wanted = |document: &&Value| document["kind"] == kind && document["metadata"]["name"] == name;
    documents.iter().find(wanted).with_context(|| format!("no {kind} {name}"))
}

/// Returns the text of a program's configuration.
fn config(documents: &[Value], program: &str) -> Result<String> {
    let prefix = format!("penstock-{program}-config-");
    let found = documents
        .iter()
        .find(|document| document["kind"] == "ConfigMap" && string(&document["metadata"]["name"]).starts_with(&prefix));
    let data = &found.with_context(|| format!("no ConfigMap {prefix}…"))?["data"];
    Ok(data[format!("{program}.toml")].as_str().context("a file in it")?.to_owned())
}

pub fn pod(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]
}

pub fn list(value: &Value) -> &[Value] {
    value.as_sequence().map(Vec::as_slice).unwrap_or_default()
}

pub fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
