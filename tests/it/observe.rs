//! `infra/observe/`: every metric named there is one the programs really export, and the other way round.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::Options,
    http,
    process::{Process, Program},
    repository,
    scratch::Scratch,
    spawn, tools, wait,
};
use serde_norway::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

/// Names of samples, each with its labels.
type Samples = BTreeMap<String, BTreeSet<String>>;

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboard_name_what_is_exported_and_nothing_else() -> Result<()> {
    let exported = exported().await?;
    let mut on_dashboard = Samples::new();
    for (place, expression) in alert_expressions()?.into_iter().chain(dashboard_expressions()?) {
        let named = named(&expression);
        assert!(!named.is_empty(), "{place} names no metric: {expression}");
        for (metric, labels) in named {
            let known =
                exported.get(&metric).with_context(|| format!("{place} names {metric}, which nobody exports"))?;
            for label in &labels {
                assert!(known.contains(label), "{place}: {metric} has no label {label}, only {known:?}");
            }
            if !place.starts_with("alert ") {
                on_dashboard.entry(metric).or_default().extend(labels);
            }
        }
    }
    let shown: BTreeSet<&str> = on_dashboard.keys().map(|name| family(name)).collect();
    let families: BTreeSet<&str> = exported.keys().map(|name| family(name)).collect();
    let hidden: Vec<_> = families.difference(&shown).collect();
    assert!(hidden.is_empty(), "exported, and on no panel of the dashboard: {hidden:?}");

    let described: Vec<String> = explained()?.iter().map(|(name, labels)| format!("{name} {labels:?}")).collect();
    let mut expected = Samples::new();
    for (sample, labels) in &exported {
        expected.entry(family(sample).to_owned()).or_default().extend(labels.iter().filter(|l| *l != "le").cloned());
    }
    let expected: Vec<String> = expected.iter().map(|(name, labels)| format!("{name} {labels:?}")).collect();
    assert_eq!(described, expected, "what the guide explains, and what is exported");
    Ok(())
}

#[test]
fn promtool_accepts_the_rules_and_every_alert_fires_when_it_should_and_only_then() -> Result<()> {
    let promtool = tools::promtool()?;
    let directory = repository().join("infra/observe");
    for arguments in [["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]] {
        spawn::run(Command::new(&promtool).current_dir(&directory).args(arguments))?;
    }
    let stories = fs::read_to_string(directory.join("alerts.test.yml"))?;
    let guide = fs::read_to_string(repository().join("docs/guides/operating.md"))?;
    for alert in alerts()? {
        let name = alert["alert"].as_str().context("an alert has a name")?;
        assert!(stories.contains(&format!("alertname: {name}, exp_alerts: []")), "{name} is not seen silent");
        assert!(stories.contains(&format!("alertname: {name}\n        exp_alerts:\n")), "{name} is not seen firing");
        let runbook = format!("docs/guides/operating.md#{}", name.to_lowercase());
        assert_eq!(alert["annotations"]["runbook"].as_str(), Some(runbook.as_str()), "{name}");
        assert!(guide.contains(&format!("\n#### {name}\n")), "the guide does not say what {name} means");
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap_or_default()), "{name}");
    }
    Ok(())
}

#[test]
fn promtool_accepts_every_expression_of_the_dashboard() -> Result<()> {
    let scratch = Scratch::new("dashboard")?;
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    let mut n_expressions = 0;
    for (place, expression) in dashboard_expressions()? {
        if place.starts_with("variable ") {
            continue;
        }
        let expression = expression.replace("$__rate_interval", "5m");
        rules.push_str(&format!("  - record: panel:{n_expressions}\n    expr: '{}'\n", expression.replace('\'', "''")));
        n_expressions += 1;
    }
    let file = scratch.write("rules.yml", rules)?;
    let checked = spawn::run(Command::new(tools::promtool()?).args(["check", "rules"]).arg(file))?;
    assert!(n_expressions > 20 && checked.contains(&format!("{n_expressions} rules found")), "{checked}");
    Ok(())
}

#[test]
fn a_metric_or_label_that_nobody_exports_would_be_found() {
    let named =
        named(r#"sum by (pool) (rate(importer_loads_total{dataset="a_b",technique=~"x"}[5m])) / scaler_leading"#);
    let labels = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let expected = [("importer_loads_total", labels(&["dataset", "technique"])), ("scaler_leading", labels(&[]))];
    assert_eq!(named, expected.map(|(name, labels)| (name.to_owned(), labels)).into());
}

/// Runs both programs until each has done what its metrics count, and returns what they export over HTTP.
async fn exported() -> Result<Samples> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let worker = world.worker().expect_line("object failed").start()?;
    world.pipeline.put("pairs/good", pairs(&[(1, "x")])).await?;
    world.pipeline.put("pairs/bad.parquet", "PAR1 and nothing else").await?;
    let of_importer = metrics(&worker, &["importer_loads_total", "importer_messages_dead_lettered_total"]).await?;
    worker.terminate(LIMIT).await?;

    let config = format!(
        "[database]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[[pool]]\nname = \"importers\"\n\
         queue_urls = [\"{}\"]\ninterval_secs = 1\nbacklog_per_worker = 10\n[pool.workers]\nkind = \"dry_run\"\n",
        world.database.url(),
        world.pipeline.queue_url
    );
    let path = world.config().with_file_name("scaler.toml");
    fs::write(&path, config)?;
    let scaler = Program::new("scaler").args(["run", "--log-format", "json", "--config"]).arg(path);
    let scaler = scaler.envs(world.pipeline.account.variables()).start()?;
    let of_scaler = metrics(&scaler, &["scaler_tick_duration_seconds_count", "scaler_sink_healthy"]).await?;
    scaler.terminate(LIMIT).await?;
    Ok(of_importer.into_iter().chain(of_scaler).collect())
}

/// Waits until a program exports samples of these names, and returns all it exports then.
async fn metrics(program: &Process, awaited: &[&str]) -> Result<Samples> {
    let line = program.wait_for_line("serving health and metrics", LIMIT).await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    let url = format!("http://{}/metrics", line["listen"].as_str().context("the line has an address")?);
    wait::until(&format!("{awaited:?} at {url}"), LIMIT, || async {
        let samples = samples(&http::get(&url).await?.body);
        Ok(awaited.iter().all(|name| samples.contains_key(*name)).then_some(samples))
    })
    .await
}

/// Reads the OpenMetrics text: `name{label="value",…} number`.
fn samples(text: &str) -> Samples {
    let mut samples = Samples::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        for (name, labels) in named(line) {
            samples.entry(name).or_default().extend(labels);
        }
    }
    samples
}

/// Returns the metrics of ours that an expression names, each with the labels it selects by.
fn named(expression: &str) -> Samples {
    let mut found = Samples::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '"') {
        rest = &rest[start..];
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted.split_once('"').map_or("", |(_, after)| after);
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if !word.starts_with("importer_") && !word.starts_with("scaler_") {
            continue;
        }
        let labels = found.entry(word.to_owned()).or_default();
        if let Some(selector) = rest.strip_prefix('{') {
            let mut parts = selector.split('"');
            // Outside the quotes: `label=`, then `,label=~` and so on, up to the closing brace.
            while let Some(outside) = parts.next().filter(|outside| !outside.trim_start().starts_with('}')) {
                let label = outside.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                labels.insert(label.to_owned());
                parts.next();
            }
        }
    }
    found
}

/// Returns a metric's name without what a histogram's samples add.
fn family(sample: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.strip_suffix(suffix)).unwrap_or(sample)
}

/// Returns the metrics the guide explains, each with its labels: rows of tables that begin with a metric's name.
fn explained() -> Result<Samples> {
    let guide = fs::read_to_string(repository().join("docs/guides/operating.md"))?;
    let mut explained = Samples::new();
    for line in guide.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, metric, labels, ..] = cells[..] else { continue };
        let metric = metric.trim_matches('`');
        if metric.starts_with("importer_") || metric.starts_with("scaler_") {
            let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned());
            let labels = labels.filter(|label| !label.is_empty()).collect();
            assert!(explained.insert(metric.to_owned(), labels).is_none(), "{metric} is explained twice");
        }
    }
    Ok(explained)
}

fn alerts() -> Result<Vec<Value>> {
    let file: Value = serde_norway::from_str(&fs::read_to_string(repository().join("infra/observe/alerts.yml"))?)?;
    let groups = file["groups"].as_sequence().context("groups")?;
    let alerts: Vec<Value> =
        groups.iter().filter_map(|group| group["rules"].as_sequence()).flatten().cloned().collect();
    assert!(alerts.len() > 10, "{} alerts", alerts.len());
    Ok(alerts)
}

fn alert_expressions() -> Result<Vec<(String, String)>> {
    let text = |alert: &Value, name: &str| alert[name].as_str().unwrap_or_default().to_owned();
    Ok(alerts()?.iter().map(|alert| (format!("alert {}", text(alert, "alert")), text(alert, "expr"))).collect())
}

fn dashboard_expressions() -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(repository().join("infra/observe/dashboard.json"))?;
    let dashboard: serde_json::Value = serde_json::from_str(&text)?;
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            found.push((format!("panel {:?}", text(&panel["title"])), text(&target["expr"])));
        }
    }
    for variable in list(&dashboard["templating"]["list"]) {
        if variable["type"] == "query" {
            found.push((format!("variable {}", text(&variable["name"])), text(&variable["query"]["query"])));
        }
    }
    Ok(found)
}
