//! `infra/helm/penstock`: Helm's own engine renders it, to what the kustomize base is.

use crate::kubernetes::{documents, find, list, pod, render, string, understood, validate};
use anyhow::{Context as _, Result};
use penstock_tests::{aws, repository, spawn};
use serde_json::json;
use serde_norway::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

/// By kind and name.
type Objects = BTreeMap<(String, String), Value>;

#[test]
fn the_chart_is_the_kustomize_base() -> Result<()> {
    let chart = plain(&template("penstock", &json!({"image": {"tag": "latest"}}))?)?;
    let mut base = plain(&(render("infra/kubernetes")? + "\n---\n" + &render("infra/kubernetes/migrate")?))?;
    // `helm install --create-namespace` makes it.
    base.remove(&("Namespace".to_owned(), "penstock".to_owned())).context("a namespace")?;
    assert_eq!(chart.keys().collect::<Vec<_>>(), base.keys().collect::<Vec<_>>());
    for (name, object) in &base {
        assert_eq!(&chart[name], object, "{name:?}");
    }
    assert!(base.len() > 15);
    Ok(())
}

#[test]
fn the_chart_s_pod_monitor_is_the_base_s() -> Result<()> {
    let chart = plain(&template("penstock", &json!({"podMonitor": {"enabled": true}}))?)?;
    let base = plain(&render("infra/kubernetes/podmonitor")?)?;
    let name = ("PodMonitor".to_owned(), "penstock".to_owned());
    assert_eq!(chart[&name], base[&name]);
    Ok(())
}

#[test]
fn every_value_is_taken_and_the_api_knows_what_comes_of_it() -> Result<()> {
    let role = |name: &str| json!({"annotations": {"eks.amazonaws.com/role-arn": format!("arn:aws:iam::123456789012:role/{name}")}});
    let place = json!({"podAnnotations": {"a": "b"}, "nodeSelector": {"kubernetes.io/arch": "arm64"},
        "tolerations": [{"key": "imports", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}}});
    let with = |mut own: serde_json::Value, place: &serde_json::Value| {
        own.as_object_mut().expect("an object").extend(place.as_object().expect("an object").clone());
        own
    };
    let environment = json!([{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]);
    let values = json!({
        "image": {"repository": "registry.example.com/penstock", "pullSecrets": [{"name": "registry"}]},
        "aws": {"region": "eu-west-1", "secret": "keys"},
        "importer": with(json!({"serviceAccount": role("importer"), "extraEnv": environment}), &place),
        "scaler": with(json!({"serviceAccount": role("scaler"), "extraEnv": environment, "replicas": 2}), &place),
        "console": with(json!({"reportsConfigMap": "reports"}), &place),
        "operator": {"serviceAccount": role("operator")},
        "networkPolicy": {"monitoringNamespace": "prometheus"},
        "podMonitor": {"enabled": true, "labels": {"release": "prometheus"}, "interval": "30s"},
    });
    let text = template("loads", &values)?;
    let rendered = documents(&text)?;
    let (monitors, known): (Vec<Value>, Vec<Value>) =
        rendered.into_iter().partition(|document| document["kind"] == "PodMonitor");
    assert_eq!(monitors[0]["metadata"]["labels"]["release"], "prometheus");
    let known_text = known.iter().map(serde_norway::to_string).collect::<Result<Vec<_>, _>>()?.join("\n---\n");
    validate(&known_text)?;

    for part in ["importer", "scaler", "operator"] {
        let account = find(&known, "ServiceAccount", &format!("loads-{part}"))?;
        let arn = string(&account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]);
        assert!(arn.ends_with(&format!("role/{part}")), "{part}: {arn}");
    }
    let version = env!("CARGO_PKG_VERSION");
    for part in ["importer", "scaler", "console"] {
        let deployment = find(&known, "Deployment", &format!("loads-{part}"))?;
        let container = &list(&pod(deployment)["containers"])[0];
        assert_eq!(container["image"], format!("registry.example.com/penstock:{version}"), "{part}");
        assert_eq!(list(&pod(deployment)["imagePullSecrets"])[0]["name"], "registry", "{part}");
        assert_eq!(pod(deployment)["nodeSelector"]["kubernetes.io/arch"], "arm64", "{part}");
        understood(container)?;
        if part != "console" {
            let names: BTreeSet<String> = list(&container["env"]).iter().map(|one| string(&one["name"])).collect();
            assert!(names.contains("AWS_REGION") && names.contains("HTTPS_PROXY"), "{part}: {names:?}");
        }
    }
    // The scaler sizes the Deployment of this release, by rights on it.
    let scaler = &find(&known, "ConfigMap", "loads-scaler-config")?["data"]["scaler.toml"];
    assert!(string(scaler).contains("deployment = \"loads-importer\""), "{scaler:?}");
    let rule = &list(&find(&known, "Role", "loads-scaler")?["rules"])[0];
    assert_eq!(list(&rule["resourceNames"])[0], "loads-importer");
    // Nothing is called by another name than the release's, but for the secrets that the guide makes.
    for document in &known {
        assert!(string(&document["metadata"]["name"]).starts_with("loads"), "{document:?}");
    }
    Ok(())
}

#[test]
fn parts_can_be_left_out() -> Result<()> {
    let off = json!({"enabled": false});
    let values = json!({"scaler": off, "console": off, "operator": off, "migrate": off, "networkPolicy": off,
        "importer": {"disruptionBudget": off, "doNotDisrupt": false}});
    let rendered = documents(&template("penstock", &values)?)?;
    let mut found: Vec<String> = rendered.iter().map(|document| string(&document["kind"])).collect();
    found.sort();
    assert_eq!(found, ["ConfigMap", "Deployment", "ServiceAccount"]);
    let importer = find(&rendered, "Deployment", "penstock-importer")?;
    let annotations = &importer["spec"]["template"]["metadata"]["annotations"];
    assert!(annotations["karpenter.sh/do-not-disrupt"].is_null());
    assert!(importer["spec"]["replicas"].is_null(), "an upgrade would undo what sizes it");
    Ok(())
}

#[test]
fn a_value_that_does_not_exist_is_refused_by_name() {
    for (values, named) in [
        (json!({"importer": {"replicas": 3}}), "replicas"),
        (json!({"scalar": {}}), "scalar"),
        (json!({"scaler": {"replicas": "two"}}), "replicas"),
    ] {
        let refused = format!("{:#}", template("penstock", &values).expect_err(named));
        assert!(refused.contains(named), "{refused}");
    }
}

#[test]
fn the_chart_has_the_version_of_the_programs() -> Result<()> {
    let chart: Value =
        serde_norway::from_str(&fs::read_to_string(repository().join("infra/helm/penstock/Chart.yaml"))?)?;
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&env!("CARGO_PKG_VERSION").into(), &env!("CARGO_PKG_VERSION").into())
    );
    Ok(())
}

/// Lints the chart and renders it.
fn template(release: &str, values: &serde_json::Value) -> Result<String> {
    let mut helm = Command::new(aws::python("helm")?);
    helm.arg(repository().join("tests/emulator/helm_template.py")).arg(repository().join("infra/helm/penstock"));
    let rendered = spawn::run(helm.args([release, "penstock", &values.to_string()]))?;
    let files: BTreeMap<String, String> = serde_json::from_str(&rendered)?;
    let manifests = files.into_iter().filter(|(name, text)| name.ends_with(".yaml") && !text.trim().is_empty());
    let each: Vec<String> = manifests.map(|(_, text)| text.trim().trim_start_matches("---").to_owned()).collect();
    Ok(each.join("\n---\n"))
}

/// Returns objects without what kustomize and Helm each add: namespaces, hashes of configurations, hooks, when to pull.
fn plain(text: &str) -> Result<Objects> {
    // Ten characters of a hash follow the name of each configuration.
    let mut parts = text.split("-config-");
    let first = parts.next().unwrap_or_default().to_owned();
    let text = parts.fold(first, |text, part| text + "-config" + part.get(10..).unwrap_or_default());
    let mut objects = Objects::new();
    for mut document in documents(&text)? {
        if let Some(metadata) = document["metadata"].as_mapping_mut() {
            metadata.remove("namespace");
        }
        strip(&mut document);
        let name = (string(&document["kind"]), string(&document["metadata"]["name"]));
        objects.insert(name, document);
    }
    Ok(objects)
}

fn strip(value: &mut Value) {
    match value {
        Value::Mapping(mapping) => {
            for own in [
                "imagePullPolicy",
                "checksum/config",
                "creationTimestamp",
                "helm.sh/hook",
                "helm.sh/hook-delete-policy",
            ] {
                mapping.remove(own);
            }
            mapping.values_mut().for_each(strip);
            let is_empty = |value: &Value| value.as_mapping().is_some_and(serde_norway::Mapping::is_empty);
            if mapping.get("annotations").is_some_and(is_empty) {
                mapping.remove("annotations");
            }
        }
        Value::Sequence(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}
