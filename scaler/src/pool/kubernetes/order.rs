//! The order in which the ReplicaSet controller ends pods when there are to be fewer.
//!
//! [ReplicaSet, scaling down](https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset)

use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// What the order and the census need to know of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name, which is its host's name too.
    pub name: String,
    /// The ReplicaSet it belongs to, by uid.
    pub replica_set: Option<String>,
    /// Whether it has a node.
    pub is_assigned: bool,
    /// How far it is.
    pub phase: PodPhase,
    /// Whether its readiness probe succeeds.
    pub is_ready: bool,
    /// Whether it is being deleted.
    pub is_leaving: bool,
    /// The annotation; 0 without one.
    pub deletion_cost: i32,
    /// When it was made.
    pub created_at: Option<DateTime<Utc>>,
}

/// A pod's phase, in the order in which pods go. Pods that have ended are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodPhase {
    /// Its containers do not run yet.
    Pending,
    /// Its node does not answer.
    Unknown,
    /// They run.
    Running,
}

/// Sorts pods in the order in which they would go.
///
/// The controller has further rules for those that are equal here; which of them goes must not matter.
pub fn sort(pods: &mut [Pod]) {
    pods.sort_by_key(|pod| (pod.is_assigned, pod.phase, pod.is_ready, pod.deletion_cost));
}

/// Returns to how many ReplicaSets the pods belong that are to stay; more than one while a rollout is under way.
pub fn n_replica_sets(pods: &[Pod]) -> usize {
    let staying = pods.iter().filter(|pod| !pod.is_leaving);
    staying.map(|pod| pod.replica_set.as_deref()).collect::<BTreeSet<_>>().len()
}

/// Returns the ReplicaSet of the youngest pod.
pub fn newest_replica_set(pods: &[Pod]) -> Option<String> {
    let youngest = pods.iter().filter(|pod| !pod.is_leaving).max_by_key(|pod| pod.created_at);
    youngest.and_then(|pod| pod.replica_set.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_the_controllers() {
        let pod = |name: &str, is_assigned, phase, is_ready, deletion_cost| Pod {
            name: name.to_owned(),
            replica_set: None,
            is_assigned,
            phase,
            is_ready,
            is_leaving: false,
            deletion_cost,
            created_at: None,
        };
        let mut pods = [
            pod("dear", true, PodPhase::Running, true, 1000),
            pod("plain", true, PodPhase::Running, true, 0),
            pod("cheap", true, PodPhase::Running, true, -1000),
            pod("dear-and-not-ready", true, PodPhase::Running, false, 1000),
            pod("lost", true, PodPhase::Unknown, false, 1000),
            pod("pulling", true, PodPhase::Pending, false, 1000),
            pod("without-a-node", false, PodPhase::Pending, false, 1000),
        ];
        sort(&mut pods);
        let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        assert_eq!(names, ["without-a-node", "pulling", "lost", "dear-and-not-ready", "cheap", "plain", "dear"]);
    }
}
