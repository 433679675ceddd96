//! One suite for every kind of pool, and what each kind does beyond it.

#[cfg(feature = "ecs")]
#[path = "pools/ecs.rs"]
mod ecs;
mod fake;
#[cfg(feature = "kubernetes")]
#[path = "pools/kubernetes.rs"]
mod kubernetes;

use fake::{FakeAutoScaling, Fault, GROUP};
use penstock_tests::proxy::{Action, Proxy, Rule};
use scaler::{
    pool::{
        Applied, Members, Phase, Plan, WorkerPool,
        asg::AutoScalingGroup,
        dry_run::DryRun,
        processes::{Processes, Settings},
    },
    timeouts::Timeouts,
};
use std::{future::Future, time::Duration};

/// How long a process may take to come or go on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A pool that can be opened again, as by a new leader.
trait Place {
    type Pool: WorkerPool;
    fn open(&self) -> Self::Pool;
    /// Whether starting really starts workers.
    fn acts(&self) -> bool {
        true
    }
    /// Lets what is on its way out be gone.
    fn settle(&self) {}
    /// Lets the workers finish, and say so where they are protected while they work.
    fn rest(&self) {}
}

/// The contract, for any pool.
async fn conforms(place: &impl Place) {
    let mut pool = place.open();
    assert_eq!(members(&mut pool).await, Members { most: members(&mut pool).await.most, ..Members::default() });

    let nothing = pool.apply(&Plan::default()).await;
    assert_eq!(nothing, Applied::default(), "an empty plan does nothing");

    let applied = pool.apply(&Plan { start: 3, ..Plan::default() }).await;
    if !place.acts() {
        assert_eq!((applied.started, size(&members(&mut pool).await)), (0, 0));
        return;
    }
    assert_eq!((applied.started, applied.problems), (3, Vec::new()));
    let three = wait(&mut pool, |seen| size(seen) == 3).await;
    assert!(three.members.iter().all(|member| member.phase != Phase::Draining));

    let mut successor = place.open();
    let found = members(&mut successor).await;
    assert_eq!(ids(&found), ids(&three), "a new leader finds the same members");

    let victim = ids(&three)[1].clone();
    let staying: Vec<String> = ids(&three).into_iter().filter(|id| *id != victim).collect();
    // The others are busy.
    let plan = Plan { end: vec![victim.clone()], spare: staying.clone(), fewer: 1, ..Plan::default() };
    assert_eq!(successor.apply(&plan).await.ended, std::slice::from_ref(&victim));
    let two = wait(&mut successor, |seen| size(seen) == 2).await;
    assert!(staying.iter().all(|id| ids(&two).contains(id)), "nobody but the victim goes");
    place.settle();
    wait(&mut successor, |seen| ids(seen) == staying).await;

    let again = successor.apply(&plan).await;
    assert_eq!(again.ended.len(), 0, "who is gone cannot be ended again");
    assert_eq!(size(&members(&mut successor).await), 2);
    let stranger = Plan { end: vec!["nobody".to_owned()], fewer: 1, ..Plan::default() };
    successor.apply(&stranger).await;
    assert_eq!(size(&members(&mut successor).await), 2, "an unknown id ends nobody");

    let replaced = Plan { replace: vec![staying[0].clone()], start: 1, ..Plan::default() };
    assert_eq!(successor.apply(&replaced).await.ended, std::slice::from_ref(&staying[0]));
    place.settle();
    let replaced = wait(&mut successor, |seen| size(seen) == 2 && !ids(seen).contains(&staying[0])).await;

    place.rest();
    members(&mut successor).await;
    successor.apply(&Plan { end: ids(&replaced), fewer: 2, ..Plan::default() }).await;
    place.settle();
    wait(&mut successor, |seen| ids(seen).is_empty()).await;
    assert!(!place.open().check().await.unwrap().is_empty(), "a pool can be checked");
}

async fn members(pool: &mut impl WorkerPool) -> Members {
    pool.members().await.unwrap()
}

async fn wait(pool: &mut impl WorkerPool, until: impl Fn(&Members) -> bool) -> Members {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let seen = members(pool).await;
        if until(&seen) {
            return seen;
        }
        assert!(tokio::time::Instant::now() < deadline, "it did not come to pass: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the members that are or will be capacity.
fn size(members: &Members) -> u32 {
    members.requested
        + u32::try_from(members.members.iter().filter(|member| member.phase != Phase::Draining).count()).unwrap()
}

fn ids(members: &Members) -> Vec<String> {
    members.members.iter().map(|member| member.id.clone()).collect()
}

/// Timeouts under which a call has 0.9 s.
const QUICK: Timeouts = Timeouts { tick: Duration::from_secs(3) };

/// A platform that goes silent, for any pool that is reached over a network: no call waits for long, what is not known is
/// not taken for nothing, and a change whose answer was lost is ours when it shows. `open` leads a pool to a URL,
/// `change` is what a change of the number sends.
async fn goes_silent<P: WorkerPool>(upstream: &str, open: impl Fn(&str) -> P, change: &str) {
    let proxy = Proxy::start(upstream).await.unwrap();
    let mut pool = open(&proxy.endpoint());
    members(&mut pool).await;
    pool.apply(&Plan { start: 1, ..Plan::default() }).await;
    assert_eq!(size(&members(&mut pool).await), 1);

    // The connections there are say nothing any more; at the latest the second look has a new one.
    proxy.silence_all();
    drop(in_time(pool.members()).await);
    assert_eq!(size(&in_time(pool.members()).await.unwrap()), 1);

    // The answer to a change is lost, and the change is not.
    let lost = proxy.add(Rule::when_client_sends(change, Action::HoldAnswer));
    let applied = in_time(pool.apply(&Plan { start: 2, ..Plan::default() })).await;
    assert_eq!((applied.started, lost.count()), (0, 1), "{applied:?}");
    assert!(applied.problems.concat().contains(&proxy.address().to_string()), "the peer is named: {applied:?}");
    lost.release();
    let seen = in_time(pool.members()).await.unwrap();
    assert_eq!((size(&seen), seen.note.as_deref()), (3, None), "nobody else changed the number");

    // Everything is silent.
    proxy.hold();
    let error = format!("{:#}", in_time(pool.members()).await.unwrap_err());
    assert!(error.contains(&proxy.address().to_string()), "the peer is named: {error}");
    let applied = in_time(pool.apply(&Plan { start: 1, ..Plan::default() })).await;
    assert_eq!((applied.started, applied.problems.len()), (0, 1), "{applied:?}");
    let victims = ids(&seen);
    let plan = Plan { replace: victims.clone(), ..Plan::default() };
    let applied = in_time(pool.apply(&plan)).await;
    assert_eq!((applied.ended.len(), applied.problems.len()), (0, 1), "one silence is enough to know: {applied:?}");
    proxy.open();
    let seen = in_time(pool.members()).await.unwrap();
    assert_eq!(seen.note, None, "{seen:?}");
}

/// Waits for one call, or for a change and the calls before it.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3), call).await.expect("no call waits forever")
}

struct Watched;

impl Place for Watched {
    type Pool = DryRun;
    fn open(&self) -> DryRun {
        DryRun::default()
    }
    fn acts(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn dry_run_conforms() {
    conforms(&Watched).await;
}

struct Children {
    command: Vec<String>,
    mark: String,
}

impl Children {
    fn new(name: &str, command: &[&str]) -> Self {
        let command = command.iter().map(|part| (*part).to_owned()).collect();
        Self { command, mark: format!("test {name} {}", std::process::id()) }
    }
}

impl Place for Children {
    type Pool = Processes;
    fn open(&self) -> Processes {
        let settings = Settings { command: self.command.clone(), ..Settings::default() };
        Processes::new(settings, self.mark.clone(), LIMIT)
    }
}

#[tokio::test]
async fn processes_conform() {
    conforms(&Children::new("conform", &["sleep", "1000"])).await;
}

#[tokio::test]
async fn children_behind_a_wrapper_are_counted_once() {
    let place = Children::new("wrapper", &["sh", "-c", "sleep 1000; true"]);
    let mut pool = place.open();
    pool.apply(&Plan { start: 2, ..Plan::default() }).await;
    wait(&mut pool, |seen| seen.members.len() == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(members(&mut pool).await.members.len(), 2);
    pool.close().await;
    assert_eq!(members(&mut place.open()).await.members.len(), 0);
}

#[tokio::test]
async fn pools_of_other_stacks_are_not_touched() {
    let (one, other) = (Children::new("one", &["sleep", "1000"]), Children::new("other", &["sleep", "1000"]));
    let (mut one, mut other) = (one.open(), other.open());
    one.apply(&Plan { start: 1, ..Plan::default() }).await;
    other.apply(&Plan { start: 2, ..Plan::default() }).await;
    one.close().await;
    assert_eq!(members(&mut other).await.members.len(), 2);
    other.close().await;
    assert_eq!(members(&mut other).await.members.len(), 0);
}

#[tokio::test]
async fn draining_child_is_signalled_once() {
    // A second signal would end an importer at once.
    let directory = std::env::temp_dir().join(format!("scaler-drain-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let script = "mkfifo f; trap 'echo again >> signals' TERM; echo ready > ready; while :; do read x <> f; done";
    let command: Vec<String> = ["sh", "-c", script].iter().map(|part| (*part).to_owned()).collect();
    let settings = Settings { command, directory: Some(directory.clone()), ..Settings::default() };
    let mut pool = Processes::new(settings, format!("test drain {}", std::process::id()), LIMIT);
    pool.apply(&Plan { start: 1, ..Plan::default() }).await;
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    wait(&mut pool, |seen| seen.members.len() == 1 && !read("ready").is_empty()).await;
    let child = ids(&members(&mut pool).await);
    for _ in 0..3 {
        pool.apply(&Plan { end: child.clone(), fewer: 1, ..Plan::default() }).await;
        assert_eq!(members(&mut pool).await.members[0].phase, Phase::Draining);
    }
    wait(&mut pool, |_| !read("signals").is_empty()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(read("signals"), "again\n");
    pool.apply(&Plan { replace: child, ..Plan::default() }).await;
    wait(&mut pool, |seen| seen.members.is_empty()).await;
    drop(std::fs::remove_dir_all(&directory));
}

#[tokio::test]
async fn program_that_does_not_exist_is_a_problem_and_not_a_panic() {
    let place = Children::new("missing", &["/nonexistent/importer"]);
    let applied = place.open().apply(&Plan { start: 5, ..Plan::default() }).await;
    assert_eq!(applied.started, 0);
    assert_eq!(applied.problems.len(), 1, "one is enough to know: {:?}", applied.problems);
    assert!(place.open().check().await.is_err());
}

#[tokio::test]
async fn check_shows_no_argument_of_the_command() {
    let command = ["sh", "-c", "DATABASE_URL=postgres://u:hunter2@h/d exec importer run"];
    let remarks = format!("{:?}", Children::new("secret", &command).open().check().await.unwrap());
    assert!(remarks.contains("processes: sh on") && !remarks.contains("hunter2"), "{remarks}");
}

struct Instances(FakeAutoScaling);

impl Place for Instances {
    type Pool = AutoScalingGroup;
    fn open(&self) -> AutoScalingGroup {
        AutoScalingGroup::new(&self.0.config(), GROUP.to_owned())
    }
    fn settle(&self) {
        self.0.group().finish();
    }
}

#[tokio::test]
async fn auto_scaling_group_conforms() {
    conforms(&Instances(FakeAutoScaling::start(0, 10).await)).await;
}

#[tokio::test]
async fn auto_scaling_group_goes_silent() {
    let fake = FakeAutoScaling::start(0, 10).await;
    let open = |url: &str| {
        let config = fake.config().into_builder().endpoint_url(url).build();
        AutoScalingGroup::new(&QUICK.aws(&config, false), GROUP.to_owned())
    };
    goes_silent(&fake.authority(), open, "Action=SetDesiredCapacity").await;
}

#[tokio::test]
async fn capacity_is_never_counted_twice() {
    let fake = FakeAutoScaling::start(0, 10).await;
    let mut pool = Instances(fake.clone()).open();
    members(&mut pool).await;
    pool.apply(&Plan { start: 4, ..Plan::default() }).await;
    let seen = members(&mut pool).await;
    pool.apply(&Plan { end: ids(&seen)[..2].to_vec(), fewer: 2, ..Plan::default() }).await;
    assert_eq!(fake.group().desired, 2);
    assert_eq!(fake.group().calls, ["SetDesiredCapacity 4", "Terminate i-0001 true", "Terminate i-0002 true"]);
    let seen = members(&mut pool).await;
    pool.apply(&Plan { replace: vec![ids(&seen)[2].clone()], start: 1, ..Plan::default() }).await;
    assert_eq!(fake.capacity(), (2, 2));
}

#[tokio::test]
async fn desired_capacity_never_leaves_the_groups_limits() {
    let fake = FakeAutoScaling::start(1, 3).await;
    let mut pool = Instances(fake.clone()).open();
    members(&mut pool).await;
    let applied = pool.apply(&Plan { start: 9, ..Plan::default() }).await;
    assert_eq!((applied.started, fake.group().desired), (2, 3));
    assert!(applied.problems[0].contains("maximum is 3"), "{:?}", applied.problems);
    let seen = members(&mut pool).await;
    let applied = pool.apply(&Plan { end: ids(&seen), fewer: 3, ..Plan::default() }).await;
    assert_eq!((applied.ended.len(), fake.group().desired), (2, 1));
    assert!(applied.problems[0].contains("minimum is 1"), "{:?}", applied.problems);
    // At the minimum a dead instance is replaced by the group itself.
    fake.group().finish();
    let seen = members(&mut pool).await;
    let plan = Plan { replace: ids(&seen), start: 1, ..Plan::default() };
    pool.apply(&plan).await;
    assert_eq!(fake.capacity(), (1, 1));
}

#[tokio::test]
async fn throttled_and_failing_calls_are_tried_again_and_then_reported() {
    let fake = FakeAutoScaling::start(0, 10).await;
    let mut pool = Instances(fake.clone()).open();
    fake.group().faults.extend([Fault::Throttled, Fault::Broken]);
    assert_eq!(size(&members(&mut pool).await), 0, "two faults are tried through");
    fake.group().faults.extend([Fault::Broken; 3]);
    let error = format!("{:#}", pool.members().await.unwrap_err());
    assert!(error.contains("describe group importers"), "{error}");
    fake.group().faults.extend([Fault::Broken; 3]);
    let applied = pool.apply(&Plan { start: 2, ..Plan::default() }).await;
    assert_eq!(applied.started, 0);
    assert!(applied.problems[0].contains("set the desired capacity"), "{:?}", applied.problems);
    assert_eq!(pool.apply(&Plan { start: 2, ..Plan::default() }).await.started, 2);
}

#[tokio::test]
async fn another_writers_change_is_reported_and_not_fought() {
    let fake = FakeAutoScaling::start(0, 10).await;
    let mut pool = Instances(fake.clone()).open();
    assert_eq!(members(&mut pool).await.note, None);
    pool.apply(&Plan { start: 2, ..Plan::default() }).await;
    assert_eq!(members(&mut pool).await.note, None, "our own change is no surprise");
    fake.group().desired = 6;
    let seen = members(&mut pool).await;
    assert!(seen.note.unwrap().contains("from 2 to 6"));
    let victims: Vec<_> = fake.group().ids();
    let applied = pool.apply(&Plan { end: victims, fewer: 2, ..Plan::default() }).await;
    assert_eq!((applied.ended.len(), fake.group().desired), (0, 6));
}

#[tokio::test]
async fn instances_asked_for_are_awaited_and_protected_ones_are_known() {
    let fake = FakeAutoScaling::start(0, 10).await;
    fake.group().launches = false;
    let mut pool = Instances(fake.clone()).open();
    members(&mut pool).await;
    pool.apply(&Plan { start: 3, ..Plan::default() }).await;
    let seen = members(&mut pool).await;
    assert_eq!((seen.requested, seen.members.len()), (3, 0));
    let applied = pool.apply(&Plan { cancel: 3, fewer: 3, ..Plan::default() }).await;
    assert_eq!(fake.group().desired, 3, "{applied:?}");
    fake.group().launches = true;
    fake.group().instances.push(fake::Instance { id: "i-protected".into(), state: "InService", protected: true });
    let seen = members(&mut pool).await;
    assert!(seen.members[0].protected);
    assert_eq!(seen.requested, 2);
}

#[tokio::test]
async fn group_that_does_not_exist_is_an_error_and_never_an_empty_pool() {
    let fake = FakeAutoScaling::start(0, 10).await;
    let mut pool = AutoScalingGroup::new(&fake.config(), "others".to_owned());
    let error = format!("{:#}", pool.members().await.unwrap_err());
    assert!(error.contains("there is no Auto Scaling group others"), "{error}");
    assert!(pool.check().await.is_err());
}
