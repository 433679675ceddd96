//! Pools of containers: an ECS service and a Kubernetes Deployment, each behind an API server.

use super::hearts::Hearts;
use super::stand::{LIMIT, Stand, wait_for_ticks, wait_until_leading};
use anyhow::{Result, ensure};
use penstock_tests::{
    aws::REGION,
    fake::{CLUSTER, DEPLOYMENT, Ecs, Kubernetes, NAMESPACE, SERVICE},
    http,
    process::Program,
    wait,
};
use serde_json::{Value, json};
use std::sync::Arc;

const POLICY: &str = "max = 4\nbacklog_per_worker = 50";

/// A platform the scaler sets a number of.
trait Platform: Clone + Send + 'static {
    /// Returns the instances that are there to stay, the oldest first.
    fn instances(&self) -> Vec<String>;
    /// Returns the number that is set.
    fn number(&self) -> usize;
    /// Leads the scaler here.
    fn lead(&self, stand: &Stand, scaler: Program) -> Result<Program>;
}

impl Platform for Ecs {
    fn instances(&self) -> Vec<String> {
        self.service().ids()
    }
    fn number(&self) -> usize {
        self.service().desired
    }
    fn lead(&self, _: &Stand, scaler: Program) -> Result<Program> {
        Ok(scaler.env("AWS_ENDPOINT_URL_ECS", self.url()))
    }
}

impl Platform for Kubernetes {
    fn instances(&self) -> Vec<String> {
        self.cluster().names()
    }
    fn number(&self) -> usize {
        self.cluster().replicas
    }
    fn lead(&self, stand: &Stand, scaler: Program) -> Result<Program> {
        let path = stand.path("kubeconfig");
        std::fs::write(&path, self.kubeconfig())?;
        Ok(scaler.env("KUBECONFIG", path.display().to_string()))
    }
}

async fn wait_for<P: Platform>(platform: &P, n: usize) -> Result<Vec<String>> {
    wait::until(&format!("{n} instances"), LIMIT, || async {
        let instances = platform.instances();
        ensure!(platform.number() <= 4, "{} are asked for", platform.number());
        Ok((instances.len() == n && platform.number() == n).then_some(instances))
    })
    .await
}

/// From none to four by the queue, then down to the only one that is busy, which the platform would have ended first.
async fn grows_and_only_idle_ones_go<P: Platform>(
    platform: P,
    workers: &str,
    first_victim: fn(&[String]) -> String,
) -> Result<Arc<Stand>> {
    let stand = Arc::new(Stand::new(POLICY).await?);
    stand.configure_with(POLICY, workers)?;
    let scaler = || platform.lead(&stand, stand.scaler("run"))?.start();

    let first = scaler()?;
    wait_until_leading(&first, LIMIT).await?;
    assert_eq!(platform.number(), 0);
    let bodies: Vec<String> = (0..200).map(|n| format!("message {n}")).collect();
    stand.pipeline.send_all(&bodies).await?;
    let instances = wait_for(&platform, 4).await?;

    let listed = platform.clone();
    let hearts = Hearts::start(&stand, move || {
        let instances = listed.instances();
        async move { Ok(instances) }
    });
    let busy = first_victim(&instances);
    stand.pipeline.purge().await?;
    stand.pipeline.send("the last one").await?;
    for instance in instances.iter().filter(|instance| **instance != busy) {
        hearts.set(instance, "idle");
    }
    wait_for_ticks(&first).await?;
    first.terminate(LIMIT).await?;
    assert_eq!(platform.number(), 4, "a stopped scaler leaves the workers alone");

    // The maximum applies at once, so there is no window to wait for.
    stand.configure_with("max = 1\nbacklog_per_worker = 50", workers)?;
    let second = scaler()?;
    let left = wait_for(&platform, 1).await?;
    assert_eq!(left, [busy], "the busy one stays");
    second.terminate(LIMIT).await?;
    Ok(stand)
}

async fn check<P: Platform>(platform: &P, stand: &Stand) -> Result<String> {
    let ended = platform.lead(stand, stand.scaler("check"))?.run(LIMIT).await?;
    ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    for line in ended.stdout.lines() {
        let is_finding = line.starts_with("warning: ") || line.starts_with("wrong: ");
        ensure!(!is_finding || line.contains("; "), "{line} does not say what to do");
    }
    Ok(ended.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn ecs_service_grows_and_the_busy_task_is_never_ended() -> Result<()> {
    let ecs = Ecs::start().await?;
    let workers = format!("[pool.workers]\nkind = \"ecs\"\ncluster = \"{CLUSTER}\"\nservice = \"{SERVICE}\"\n");
    let stand = grows_and_only_idle_ones_go(ecs.clone(), &workers, |tasks| tasks[0].clone()).await?;
    let said = check(&ecs, &stand).await?;
    assert!(said.contains("pool importers: service importers in cluster imports: desired 1"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deployment_grows_and_the_busy_pod_is_never_ended() -> Result<()> {
    let kubernetes = Kubernetes::start().await?;
    // A server that is busy for a moment is asked again, and nobody is alarmed.
    kubernetes.cluster().faults.extend([503, 429]);
    let workers = format!("[pool.workers]\nkind = \"kubernetes\"\ndeployment = \"{DEPLOYMENT}\"\n");
    let stand = grows_and_only_idle_ones_go(kubernetes.clone(), &workers, |pods| pods[3].clone()).await?;
    let said = check(&kubernetes, &stand).await?;
    let found = format!("pool importers: deployment {NAMESPACE}/{DEPLOYMENT}: 1 replicas");
    assert!(said.contains(&found), "{said}");

    kubernetes.cluster().denied.insert("patch deployments/scale");
    let ended = kubernetes.lead(&stand, stand.scaler("check"))?.run(LIMIT).await?;
    assert_eq!(ended.status.code(), Some(2));
    let wrong = "wrong: pool importers: may not patch deployments/scale in namespace penstock; add that to the Role";
    assert!(ended.stdout.contains(wrong), "{}", ended.stdout);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn emulated_ecs_service_is_seen_and_grows() -> Result<()> {
    let stand = Stand::new(POLICY).await?;
    let workers = format!("[pool.workers]\nkind = \"ecs\"\ncluster = \"{CLUSTER}\"\nservice = \"{SERVICE}\"\n");
    stand.configure_with(POLICY, &workers)?;
    let call = |action: &'static str, wish: Value| {
        let stand = &stand;
        async move {
            let scope = format!(
                "AWS4-HMAC-SHA256 Credential={}/20260101/{REGION}/ecs/aws4_request, SignedHeaders=host, Signature=x",
                stand.pipeline.account.id()
            );
            let target = format!("AmazonEC2ContainerServiceV20141113.{action}");
            let headers = [
                ("Content-Type", "application/x-amz-json-1.1"),
                ("X-Amz-Target", target.as_str()),
                ("Authorization", scope.as_str()),
            ];
            let url = format!("{}/", stand.pipeline.account.emulator().endpoint());
            let answer = http::request("POST", &url, &headers, &wish.to_string()).await?;
            ensure!(answer.status == 200, "{action}: {} {}", answer.status, answer.body);
            Ok(serde_json::from_str::<Value>(&answer.body)?)
        }
    };
    let container = json!({"name": "importer", "image": "penstock", "memory": 256, "stopTimeout": 120});
    call("CreateCluster", json!({"clusterName": CLUSTER})).await?;
    call("RegisterTaskDefinition", json!({"family": "importer", "containerDefinitions": [container]})).await?;
    let service = json!({"cluster": CLUSTER, "serviceName": SERVICE, "taskDefinition": "importer", "desiredCount": 0});
    call("CreateService", service).await?;

    // The emulator knows of no protection, so nobody would be ended.
    let unprotected = "ECS does not say which tasks are protected";
    let scaler = stand.scaler("run").expect_line(unprotected).start()?;
    wait_until_leading(&scaler, LIMIT).await?;
    let bodies: Vec<String> = (0..150).map(|n| format!("message {n}")).collect();
    stand.pipeline.send_all(&bodies).await?;
    wait::until("three tasks", LIMIT, || async {
        let listed = call("ListTasks", json!({"cluster": CLUSTER, "serviceName": SERVICE})).await?;
        let n = listed["taskArns"].as_array().map_or(0, Vec::len);
        ensure!(n <= 3, "{n} tasks");
        Ok((n == 3).then_some(()))
    })
    .await?;
    scaler.wait_for_line(unprotected, LIMIT).await?;
    scaler.terminate(LIMIT).await?;
    let ended = stand.scaler("check").run(LIMIT).await?;
    let found = "service importers in cluster imports: desired 3, 3 tasks running";
    assert!(ended.stdout.contains(found), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("a task asked to stop has 120 s to finish"), "{}", ended.stdout);
    Ok(())
}
