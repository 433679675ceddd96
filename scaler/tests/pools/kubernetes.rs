//! Pods of a Kubernetes Deployment.

use crate::{LIMIT, Place, QUICK, conforms, goes_silent, ids, members, size};
use kube::Config;
use penstock_tests::{
    fake::{DEPLOYMENT, Kubernetes, NAMESPACE},
    http,
};
use scaler::pool::{Members, Phase, Plan, Remark, WorkerPool, kubernetes::KubernetesDeployment};
use std::time::Duration;

struct Pods(Kubernetes);

impl Pods {
    async fn start() -> Self {
        Self(Kubernetes::start().await.unwrap())
    }

    /// Starts a Deployment with so many ready pods, and a pool that has seen them.
    async fn with(n: u32) -> (Kubernetes, KubernetesDeployment, Vec<String>) {
        let place = Self::start().await;
        let mut pool = place.open();
        members(&mut pool).await;
        assert_eq!(pool.apply(&start(n)).await.started, n);
        let seen = members(&mut pool).await;
        assert_eq!(size(&seen), n);
        place.0.cluster().calls.clear();
        (place.0, pool, ids(&seen))
    }
}

impl Place for Pods {
    type Pool = KubernetesDeployment;
    fn open(&self) -> KubernetesDeployment {
        open(&self.0, DEPLOYMENT)
    }
    fn settle(&self) {
        self.0.cluster().finish();
    }
}

fn open(kubernetes: &Kubernetes, deployment: &str) -> KubernetesDeployment {
    at(&kubernetes.url(), deployment, LIMIT)
}

fn at(url: &str, deployment: &str, limit: Duration) -> KubernetesDeployment {
    KubernetesDeployment::at(Config::new(url.parse().unwrap()), NAMESPACE, deployment.to_owned(), limit)
}

fn start(n: u32) -> Plan {
    Plan { start: n, ..Plan::default() }
}

fn end(victims: &[String], spare: &[String]) -> Plan {
    let fewer = u32::try_from(victims.len()).unwrap();
    Plan { end: victims.to_vec(), spare: spare.to_vec(), fewer, ..Plan::default() }
}

fn phases(seen: &Members) -> Vec<Phase> {
    seen.members.iter().map(|member| member.phase).collect()
}

#[tokio::test]
async fn kubernetes_deployment_conforms() {
    conforms(&Pods::start().await).await;
}

#[tokio::test]
async fn kubernetes_deployment_goes_silent() {
    let kubernetes = Kubernetes::start().await.unwrap();
    let change = format!("PATCH /apis/apps/v1/namespaces/{NAMESPACE}/deployments/{DEPLOYMENT}/scale");
    goes_silent(http::authority(&kubernetes.url()).unwrap(), |url| at(url, DEPLOYMENT, QUICK.call()), &change).await;
}

#[tokio::test]
async fn costs_are_written_before_the_number_is_lowered() {
    // The busy one is the youngest, which the controller would take.
    let (kubernetes, mut pool, pods) = Pods::with(3).await;
    let applied = pool.apply(&end(&pods[..1], &pods[2..])).await;
    assert_eq!((applied.ended, applied.problems), (pods[..1].to_vec(), Vec::new()));
    let mut calls = kubernetes.cluster().calls.clone();
    assert_eq!(calls.pop().as_deref(), Some("scale 2"));
    calls.sort();
    assert_eq!(calls, [format!("cost {} -1000", pods[0]), format!("cost {} 1000", pods[2])]);
    assert_eq!(kubernetes.cluster().names(), pods[1..]);
}

#[tokio::test]
async fn costs_are_written_only_when_they_change() {
    let (kubernetes, mut pool, pods) = Pods::with(4).await;
    pool.apply(&end(&pods[..1], &pods[3..])).await;
    kubernetes.cluster().finish();
    kubernetes.cluster().calls.clear();
    members(&mut pool).await;
    pool.apply(&end(&pods[1..2], &pods[3..])).await;
    assert_eq!(kubernetes.cluster().calls, [format!("cost {} -1000", pods[1]), "scale 2".to_owned()]);
    // The busy one is idle by now and another one is busy.
    kubernetes.cluster().finish();
    kubernetes.cluster().calls.clear();
    members(&mut pool).await;
    pool.apply(&end(&pods[3..], &pods[2..3])).await;
    assert_eq!(kubernetes.cluster().names(), pods[2..3]);
}

#[tokio::test]
async fn busy_pod_that_is_not_ready_keeps_the_number_up() {
    let (kubernetes, mut pool, pods) = Pods::with(3).await;
    kubernetes.cluster().pod(&pods[2]).unwrap().is_ready = false;
    let applied = pool.apply(&end(&pods[..2], &pods[2..])).await;
    assert_eq!(applied.ended.len(), 0);
    let said = applied.problems.concat();
    assert!(said.contains("2 stay") && said.contains(&format!("{} first, which is not ready", pods[2])), "{said}");
    assert_eq!(kubernetes.cluster().replicas, 3);
    assert_eq!(kubernetes.cluster().names(), pods);
    kubernetes.cluster().pod(&pods[2]).unwrap().is_ready = true;
    members(&mut pool).await;
    assert_eq!(pool.apply(&end(&pods[..2], &pods[2..])).await.ended.len(), 2);
    assert_eq!(kubernetes.cluster().names(), pods[2..]);
}

#[tokio::test]
async fn nobody_goes_when_costs_cannot_be_written() {
    let (kubernetes, mut pool, pods) = Pods::with(2).await;
    kubernetes.cluster().denied.insert("patch pods");
    let applied = pool.apply(&end(&pods[..1], &pods[1..])).await;
    let said = applied.problems.concat();
    assert!(said.contains("deletion cost") && said.contains("is forbidden"), "{said}");
    assert_eq!((applied.ended.len(), kubernetes.cluster().names()), (0, pods));
}

#[tokio::test]
async fn nobody_goes_while_a_rollout_is_under_way() {
    let (kubernetes, mut pool, pods) = Pods::with(2).await;
    {
        let mut cluster = kubernetes.cluster();
        cluster.replica_set = "importers-77b5f8c9d";
        cluster.replicas = 3;
        cluster.reconcile();
        cluster.replicas = 2;
    }
    let seen = members(&mut pool).await;
    assert_eq!(size(&seen), 2, "what the rollout adds is no capacity");
    let leaving: Vec<&String> =
        seen.members.iter().filter(|member| member.phase == Phase::Draining).map(|member| &member.id).collect();
    assert!(leaving.len() == 1 && pods.contains(leaving[0]), "an old one goes: {leaving:?}");
    let applied = pool.apply(&end(&pods[..1], &pods[1..])).await;
    assert!(applied.problems.concat().contains("rollout"), "{:?}", applied.problems);
    assert_eq!((applied.ended.len(), kubernetes.cluster().replicas), (0, 2));
    assert_eq!(pool.apply(&start(1)).await.started, 1, "growing goes on");
}

#[tokio::test]
async fn pods_that_are_about_to_go_are_taken_back_before_any_is_started() {
    let (kubernetes, mut pool, pods) = Pods::with(3).await;
    // The number is down, and the controllers have not looked yet.
    kubernetes.cluster().replicas = 1;
    let seen = members(&mut Pods(kubernetes.clone()).open()).await;
    assert_eq!(size(&seen), 3);
    assert_eq!(phases(&seen).iter().filter(|phase| **phase == Phase::Surplus).count(), 2);
    members(&mut pool).await;
    let mut successor = Pods(kubernetes.clone()).open();
    members(&mut successor).await;
    let applied = successor.apply(&Plan { take_back: pods[..2].to_vec(), start: 1, ..Plan::default() }).await;
    assert_eq!((applied.taken_back, applied.started), (2, 1));
    assert_eq!(kubernetes.cluster().names()[..3], pods, "nobody had to be started for those");
    assert_eq!(kubernetes.cluster().replicas, 4);
}

#[tokio::test]
async fn dead_pod_is_replaced_by_its_replica_set_and_counted_once() {
    let (kubernetes, mut pool, pods) = Pods::with(3).await;
    let plan = Plan { replace: pods[..1].to_vec(), start: 1, spare: pods[1..].to_vec(), ..Plan::default() };
    let applied = pool.apply(&plan).await;
    assert_eq!((applied.ended, applied.started, applied.problems), (pods[..1].to_vec(), 1, Vec::new()));
    assert_eq!(kubernetes.cluster().calls, [format!("delete {}", pods[0])], "the number stays as it is");
    assert_eq!(kubernetes.cluster().names().len(), 3);
    // When nobody is to replace it, the number goes down, and those who must stay do.
    let (kubernetes, mut pool, pods) = Pods::with(3).await;
    let plan = Plan { replace: pods[..1].to_vec(), spare: pods[1..].to_vec(), ..Plan::default() };
    let applied = pool.apply(&plan).await;
    assert_eq!(kubernetes.cluster().replicas, 2, "{applied:?}");
    assert_eq!(kubernetes.cluster().names(), pods[1..]);
}

#[tokio::test]
async fn pods_beyond_the_quota_are_asked_for_and_can_be_cancelled() {
    let (kubernetes, mut pool, pods) = Pods::with(1).await;
    kubernetes.cluster().has_quota = false;
    pool.apply(&start(3)).await;
    let seen = members(&mut pool).await;
    assert_eq!((seen.requested, seen.members.len()), (3, 1));
    let plan = Plan { cancel: 2, fewer: 2, spare: pods.clone(), ..Plan::default() };
    let applied = pool.apply(&plan).await;
    assert_eq!((applied.problems, kubernetes.cluster().replicas), (Vec::new(), 2));
    assert_eq!(kubernetes.cluster().names(), pods);
}

#[tokio::test]
async fn pods_without_a_node_are_starting_and_ended_ones_are_none() {
    let (kubernetes, mut pool, pods) = Pods::with(2).await;
    kubernetes.cluster().has_nodes = false;
    kubernetes.cluster().page = 1;
    pool.apply(&start(2)).await;
    let seen = members(&mut pool).await;
    assert_eq!(phases(&seen), [Phase::Running, Phase::Running, Phase::Pending, Phase::Pending]);
    assert!(seen.members.iter().all(|member| member.since.is_some()));
    kubernetes.cluster().pod(&pods[0]).unwrap().phase = "Failed";
    let seen = members(&mut pool).await;
    assert_eq!((seen.members.len(), seen.requested), (3, 1), "the ReplicaSet will make another one");
}

#[tokio::test]
async fn another_writers_number_is_reported_and_not_fought() {
    let (kubernetes, mut pool, pods) = Pods::with(2).await;
    assert_eq!(members(&mut pool).await.note, None, "our own change is no surprise");
    kubernetes.cluster().replicas = 6;
    kubernetes.cluster().reconcile();
    assert!(members(&mut pool).await.note.unwrap().contains("from 2 to 6"));
    let applied = pool.apply(&end(&pods, &[])).await;
    assert_eq!((applied.ended.len(), kubernetes.cluster().replicas), (0, 6));
    kubernetes.cluster().replicas = 1;
    kubernetes.cluster().reconcile();
    members(&mut pool).await;
    let applied = pool.apply(&start(3)).await;
    assert_eq!((applied.started, kubernetes.cluster().replicas), (0, 1));
}

#[tokio::test]
async fn kubernetes_calls_that_fail_are_tried_again_and_then_reported() {
    let (kubernetes, mut pool, _) = Pods::with(1).await;
    kubernetes.cluster().faults.extend([429, 503, 504]);
    assert_eq!(size(&members(&mut pool).await), 1, "a busy server is asked again");
    kubernetes.cluster().faults.extend([500]);
    let error = format!("{:#}", pool.members().await.unwrap_err());
    assert!(error.contains("read the scale of deployment penstock/importers"), "{error}");
    kubernetes.cluster().faults.extend([500]);
    let applied = pool.apply(&start(2)).await;
    assert_eq!(applied.started, 0);
    assert!(applied.problems[0].contains("set the replicas"), "{:?}", applied.problems);
    assert_eq!(pool.apply(&start(2)).await.started, 2);
}

#[tokio::test]
async fn kubernetes_part_that_cannot_be_seen_is_an_error_and_never_an_empty_pool() {
    for (part, expected) in [("spec", "lacks its number"), ("status", "lacks its selector")] {
        let (kubernetes, mut pool, _) = Pods::with(1).await;
        kubernetes.cluster().silent_on.insert(part);
        let error = format!("{:#}", pool.members().await.unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    for right in ["get deployments/scale", "list pods"] {
        let (kubernetes, mut pool, _) = Pods::with(1).await;
        kubernetes.cluster().denied.insert(right);
        let error = format!("{:#}", pool.members().await.unwrap_err());
        assert!(error.contains("is forbidden"), "{error}");
    }
    let kubernetes = Kubernetes::start().await.unwrap();
    let error = format!("{:#}", open(&kubernetes, "others").members().await.unwrap_err());
    assert!(error.contains("\"others\" not found"), "{error}");
    assert!(open(&kubernetes, "others").check().await.is_err());
}

#[tokio::test]
async fn server_behind_tls_needs_nothing_set_up_by_the_program() {
    let mut config = Config::new("https://127.0.0.1:1".parse().unwrap());
    config.root_cert = Some(Vec::new());
    let mut pool = KubernetesDeployment::at(config, NAMESPACE, DEPLOYMENT.to_owned(), LIMIT);
    let error = format!("{:#}", pool.members().await.unwrap_err());
    assert!(error.contains("read the scale of deployment penstock/importers"), "{error}");
}

#[tokio::test]
async fn kubernetes_check_says_what_to_do() {
    let (kubernetes, mut pool, _) = Pods::with(1).await;
    let is_fine = |remarks: &[Remark]| remarks.iter().all(|remark| matches!(remark, Remark::Fine(_)));
    let remarks = pool.check().await.unwrap();
    assert!(is_fine(&remarks), "{remarks:?}");
    kubernetes.cluster().grace_secs = None;
    kubernetes.cluster().denied.extend(["patch pods", "patch deployments/scale"]);
    let remarks = pool.check().await.unwrap();
    let wrong: Vec<&str> = remarks
        .iter()
        .filter_map(|remark| if let Remark::Wrong { what, .. } = remark { Some(what.as_str()) } else { None })
        .collect();
    assert_eq!(
        wrong,
        ["may not patch deployments/scale in namespace penstock", "may not patch pods in namespace penstock"]
    );
    let advised = |remark: &Remark| matches!(remark, Remark::Doubt { what, next } if what.contains("30 s") && next.contains("terminationGracePeriodSeconds"));
    assert!(remarks.iter().any(advised), "{remarks:?}");
    assert!(kubernetes.cluster().calls.is_empty(), "a check changes nothing");
}
