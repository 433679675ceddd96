//! Tasks of an ECS service.

use crate::{Place, QUICK, conforms, goes_silent, ids, members, size};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecs::config::{Credentials, SharedCredentialsProvider};
use penstock_tests::{
    fake::{CLUSTER, Ecs, EcsFault, SERVICE},
    http,
};
use scaler::pool::{Members, Phase, Plan, Remark, WorkerPool, ecs::EcsService};

struct Tasks(Ecs);

impl Tasks {
    async fn start() -> Self {
        Self(Ecs::start().await.unwrap())
    }

    /// Starts a service with so many running tasks, and a pool that has seen them.
    async fn with(n: u32) -> (Ecs, EcsService, Vec<String>) {
        let place = Self::start().await;
        let mut pool = place.open();
        members(&mut pool).await;
        assert_eq!(pool.apply(&start(n)).await.started, n);
        let seen = members(&mut pool).await;
        assert_eq!(size(&seen), n);
        place.0.service().calls.clear();
        (place.0, pool, ids(&seen))
    }
}

impl Place for Tasks {
    type Pool = EcsService;
    fn open(&self) -> EcsService {
        EcsService::new(&config(&self.0.url()), CLUSTER.to_owned(), SERVICE.to_owned())
    }
    fn settle(&self) {
        self.0.service().finish();
    }
    fn rest(&self) {
        let mut service = self.0.service();
        for id in service.ids() {
            service.protect(&id, false);
        }
    }
}

fn config(url: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "test")))
        .http_client(service::aws::http_client().expect("no bundle is named"))
        .build()
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
async fn ecs_service_conforms() {
    conforms(&Tasks::start().await).await;
}

#[tokio::test]
async fn ecs_service_goes_silent() {
    let ecs = Ecs::start().await.unwrap();
    let open = |url: &str| EcsService::new(&QUICK.aws(&config(url), false), CLUSTER.to_owned(), SERVICE.to_owned());
    goes_silent(http::authority(&ecs.url()).unwrap(), open, ".UpdateService").await;
}

#[tokio::test]
async fn task_that_must_stay_is_protected_before_the_count_is_lowered() {
    // The busy one is the oldest, which the scheduler would take, and has not protected itself.
    let (ecs, mut pool, tasks) = Tasks::with(3).await;
    let applied = pool.apply(&end(&tasks[1..2], &tasks[..1])).await;
    assert_eq!((applied.ended, applied.problems), (tasks[1..2].to_vec(), Vec::new()));
    assert_eq!(ecs.service().calls, [format!("Protect {} true 15", tasks[0]), "UpdateService 2".to_owned()]);
    assert!(ecs.service().ids().contains(&tasks[0]));
}

#[tokio::test]
async fn task_that_protects_itself_keeps_its_own_time() {
    let (ecs, mut pool, tasks) = Tasks::with(2).await;
    ecs.service().protect(&tasks[0], true);
    assert!(members(&mut pool).await.members[0].protected);
    pool.apply(&end(&tasks[1..], &tasks[..1])).await;
    assert_eq!(ecs.service().calls, ["UpdateService 1"], "protection is not set again, which would shorten it");
    assert_eq!(ecs.service().ids(), tasks[..1]);
}

#[tokio::test]
async fn victim_that_became_busy_meanwhile_stays() {
    let (ecs, mut pool, tasks) = Tasks::with(3).await;
    ecs.service().protect(&tasks[1], true);
    let applied = pool.apply(&end(&tasks[1..], &[])).await;
    assert_eq!(applied.ended, tasks[2..], "the other one goes");
    assert!(applied.problems[0].contains("1 became busy"), "{:?}", applied.problems);
    assert_eq!(ecs.service().desired, 2);
    // With nobody left who may go, the count is left alone.
    let (ecs, mut pool, tasks) = Tasks::with(1).await;
    ecs.service().protect(&tasks[0], true);
    assert_eq!(pool.apply(&end(&tasks, &[])).await.ended.len(), 0);
    assert_eq!(ecs.service().desired, 1);
    assert_eq!(ecs.service().calls.len(), 0);
}

#[tokio::test]
async fn nobody_goes_when_protection_cannot_be_had() {
    for (action, part) in [("UpdateTaskProtection", ""), ("", "protectedTasks")] {
        let (ecs, mut pool, tasks) = Tasks::with(2).await;
        ecs.service().denied.extend((!action.is_empty()).then_some(action));
        ecs.service().silent_on.extend((!part.is_empty()).then_some(part));
        let applied = pool.apply(&end(&tasks[1..], &tasks[..1])).await;
        assert_eq!((applied.ended.len(), ecs.service().desired), (0, 2), "{:?}", applied.problems);
        assert_eq!(ecs.service().ids(), tasks);
    }
}

#[tokio::test]
async fn task_whose_protection_is_not_known_counts_as_protected() {
    let (ecs, mut pool, _) = Tasks::with(2).await;
    ecs.service().silent_on.insert("protectedTasks");
    assert!(members(&mut pool).await.members.iter().all(|member| member.protected));
}

#[tokio::test]
async fn tasks_ecs_is_about_to_end_are_taken_back_before_any_is_started() {
    let (ecs, mut pool, tasks) = Tasks::with(4).await;
    for task in &tasks[..3] {
        ecs.service().protect(task, true);
    }
    // All but one are busy, and the count is down: they go as soon as they have finished.
    ecs.service().desired = 1;
    ecs.service().schedule();
    let mut successor = Tasks(ecs.clone()).open();
    let seen = members(&mut successor).await;
    assert_eq!(phases(&seen), [Phase::Surplus, Phase::Surplus, Phase::Running, Phase::Draining]);
    let surplus: Vec<String> =
        seen.members.iter().filter(|member| member.phase == Phase::Surplus).map(|member| member.id.clone()).collect();
    let applied = successor.apply(&Plan { take_back: surplus, start: 1, ..Plan::default() }).await;
    assert_eq!((applied.taken_back, applied.started), (2, 1));
    assert_eq!(ecs.service().calls, ["UpdateService 4"]);
    assert_eq!(ecs.service().ids()[..3], tasks[..3], "nobody had to be started for those");
    assert_eq!(ecs.service().ids().len(), 4);
    drop(members(&mut pool).await);
}

#[tokio::test]
async fn dead_task_is_replaced_by_the_service_and_counted_once() {
    let (ecs, mut pool, tasks) = Tasks::with(3).await;
    let plan = Plan { replace: tasks[..1].to_vec(), start: 1, spare: tasks[1..].to_vec(), ..Plan::default() };
    let applied = pool.apply(&plan).await;
    assert_eq!((applied.ended, applied.started, applied.problems), (tasks[..1].to_vec(), 1, Vec::new()));
    assert_eq!(ecs.service().calls, [format!("StopTask {}", tasks[0])], "the count stays as it is");
    assert_eq!(ecs.service().ids().len(), 3);
    // When nobody is to replace it, the count goes down, and those who must stay do.
    let (ecs, mut pool, tasks) = Tasks::with(3).await;
    let plan = Plan { replace: tasks[..1].to_vec(), spare: tasks[1..].to_vec(), ..Plan::default() };
    pool.apply(&plan).await;
    assert_eq!(ecs.service().desired, 2);
    assert_eq!(ecs.service().ids(), tasks[1..]);
}

#[tokio::test]
async fn tasks_without_capacity_are_asked_for_and_can_be_cancelled() {
    let (ecs, mut pool, tasks) = Tasks::with(1).await;
    ecs.service().has_capacity = false;
    pool.apply(&start(3)).await;
    let seen = members(&mut pool).await;
    assert_eq!((seen.requested, seen.members.len()), (3, 1));
    let plan = Plan { cancel: 2, fewer: 2, spare: tasks.clone(), ..Plan::default() };
    let applied = pool.apply(&plan).await;
    assert_eq!((applied.problems, ecs.service().desired), (Vec::new(), 2));
    assert_eq!(ecs.service().ids(), tasks);
}

#[tokio::test]
async fn starting_tasks_are_members_and_stopped_ones_are_not() {
    let (ecs, mut pool, tasks) = Tasks::with(2).await;
    ecs.service().launches_to = "PROVISIONING";
    ecs.service().page = 1;
    pool.apply(&start(2)).await;
    let seen = members(&mut pool).await;
    assert_eq!(phases(&seen), [Phase::Running, Phase::Running, Phase::Pending, Phase::Pending]);
    assert!(seen.members.iter().all(|member| member.since.is_some()));
    pool.apply(&end(&tasks[..1], &tasks[1..])).await;
    assert_eq!(phases(&members(&mut pool).await)[0], Phase::Draining);
    ecs.service().finish();
    assert_eq!(members(&mut pool).await.members.len(), 3);
    assert_eq!(members(&mut pool).await.members.len(), 3, "also when it is still listed");
}

#[tokio::test]
async fn tasks_a_deployment_replaces_are_no_capacity() {
    let (ecs, mut pool, tasks) = Tasks::with(2).await;
    {
        let mut service = ecs.service();
        service.deployments.insert(0, "ecs-svc/2");
        service.desired = 4;
        service.schedule();
        service.desired = 2;
    }
    let seen = members(&mut pool).await;
    let leaving: Vec<&String> =
        seen.members.iter().filter(|member| member.phase == Phase::Draining).map(|member| &member.id).collect();
    assert_eq!(leaving, tasks.iter().collect::<Vec<_>>(), "those of the deployment before");
    assert_eq!(size(&seen), 2);
}

#[tokio::test]
async fn another_writers_count_is_reported_and_not_fought() {
    let (ecs, mut pool, tasks) = Tasks::with(2).await;
    assert_eq!(members(&mut pool).await.note, None, "our own change is no surprise");
    ecs.service().desired = 6;
    ecs.service().schedule();
    assert!(members(&mut pool).await.note.unwrap().contains("from 2 to 6"));
    let applied = pool.apply(&end(&tasks, &[])).await;
    assert_eq!((applied.ended.len(), ecs.service().desired), (0, 6));
    ecs.service().desired = 1;
    ecs.service().schedule();
    members(&mut pool).await;
    let applied = pool.apply(&start(3)).await;
    assert_eq!((applied.started, ecs.service().desired), (0, 1));
}

#[tokio::test]
async fn ecs_calls_that_fail_are_tried_again_and_then_reported() {
    let (ecs, mut pool, _) = Tasks::with(1).await;
    ecs.service().faults.extend([EcsFault::Throttled, EcsFault::Broken]);
    assert_eq!(size(&members(&mut pool).await), 1, "two faults are tried through");
    ecs.service().faults.extend([EcsFault::Broken; 3]);
    let error = format!("{:#}", pool.members().await.unwrap_err());
    assert!(error.contains("describe service importers in cluster imports"), "{error}");
    ecs.service().faults.extend([EcsFault::Broken; 3]);
    let applied = pool.apply(&start(2)).await;
    assert_eq!(applied.started, 0);
    assert!(applied.problems[0].contains("set the desired count"), "{:?}", applied.problems);
    assert_eq!(pool.apply(&start(2)).await.started, 2);
}

#[tokio::test]
async fn ecs_part_that_cannot_be_seen_is_an_error_and_never_an_empty_pool() {
    for part in ["services", "taskArns", "tasks"] {
        let (ecs, mut pool, _) = Tasks::with(1).await;
        ecs.service().silent_on.insert(part);
        assert!(pool.members().await.is_err(), "without {part}");
    }
    for action in ["DescribeServices", "ListTasks", "DescribeTasks", "GetTaskProtection"] {
        let (ecs, mut pool, _) = Tasks::with(1).await;
        ecs.service().denied.insert(action);
        let error = format!("{:#}", pool.members().await.unwrap_err());
        assert!(error.contains(&format!("needs ecs:{action}")), "{error}");
    }
    let place = Tasks::start().await;
    for (cluster, service, expected) in
        [(CLUSTER, "others", "there is no service others"), ("others", SERVICE, "Cluster not found")]
    {
        let mut pool = EcsService::new(&config(&place.0.url()), cluster.to_owned(), service.to_owned());
        let error = format!("{:?}", pool.members().await.unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert!(pool.check().await.is_err());
    }
}

#[tokio::test]
async fn ecs_check_says_what_to_do() {
    let (ecs, mut pool, _) = Tasks::with(1).await;
    let is_doubt = |remarks: &[Remark]| remarks.iter().any(|remark| matches!(remark, Remark::Doubt { .. }));
    assert!(!is_doubt(&pool.check().await.unwrap()));
    ecs.service().stop_timeout = None;
    let remarks = pool.check().await.unwrap();
    let advised = |remark: &Remark| matches!(remark, Remark::Doubt { what, next } if what.contains("30 s") && next.contains("stopTimeout"));
    assert!(remarks.iter().any(advised), "{remarks:?}");
    ecs.service().denied.insert("DescribeTaskDefinition");
    let remarks = pool.check().await.unwrap();
    let advised =
        |remark: &Remark| matches!(remark, Remark::Doubt { next, .. } if next.contains("ecs:DescribeTaskDefinition"));
    assert!(remarks.iter().any(advised), "{remarks:?}");
    assert!(ecs.service().calls.is_empty(), "a check changes nothing");
}
