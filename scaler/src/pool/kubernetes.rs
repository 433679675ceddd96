//! Workers as the pods of a Deployment.
//!
//! The number of replicas is all there is to set: on the way down the
//! ReplicaSet controller chooses which pods go, in an order it makes public
//! ([`order`]). Pods that are not ready go first, whatever they do; among the
//! others the annotation `pod-deletion-cost` decides. So the costs are written
//! before the number is lowered, and it is lowered only as far as the
//! controller's own order comes to no pod that must stay.
//!
//! Kubernetes protects no pod: one that receives its first message after our
//! look gets SIGTERM all the same, drains, and ends when it has, within the
//! pod's `terminationGracePeriodSeconds`.

mod api;
mod order;

use super::{
    Abilities, Applied, Key, Member, Members, Phase, Plan, Remark, WorkerPool,
    count::{Counted, Number, carry_out, mark_surplus, n_present, natural, signed},
};
use api::{Api, Place, Scale};
use order::Pod;
use service::words::chain;
use std::time::Duration;

/// What it costs to delete a pod that was chosen, one that may go as well, and one that must stay.
const CHOSEN: i32 = -1000;
const MAY_GO: i32 = 0;
const MUST_STAY: i32 = 1000;

/// How long the controller gets to see the costs before it sees the number: it watches the two apart.
/// Longer only delays a scale-in; with none at all it might choose by the old costs.
const LET_COSTS_SETTLE: Duration = Duration::from_secs(1);

/// How long a pod has at least to finish once it is deleted: an importer's drain timeout, and some.
const SHORTEST_GRACE_SECS: i64 = 120;

/// A Deployment.
pub struct KubernetesDeployment {
    api: Api,
    replicas: Number,
}

impl KubernetesDeployment {
    /// Names the Deployment; where the API server is, and the namespace when none is given, is found out as `kubectl`
    /// does, or from the pod's service account.
    ///
    /// A call may take this long.
    pub fn new(namespace: Option<String>, deployment: String, limit: Duration) -> Self {
        Self::on(Api::new(Place::Found, namespace, deployment, limit))
    }

    /// Names the Deployment on a given server.
    pub fn at(server: kube::Config, namespace: &str, deployment: String, limit: Duration) -> Self {
        Self::on(Api::new(Place::Given(Box::new(server)), Some(namespace.to_owned()), deployment, limit))
    }

    fn on(api: Api) -> Self {
        let replicas = Number::of("the Deployment's replicas", &api.deployment);
        Self { api, replicas }
    }

    /// Returns the number and the pods.
    async fn look(&mut self) -> anyhow::Result<(i32, Vec<Pod>)> {
        let Scale { replicas, selector } = self.api.scale().await?;
        Ok((replicas, self.api.pods(&selector).await?))
    }

    /// Says what it costs to delete each pod; returns whether that was news.
    async fn write_costs(&mut self, plan: &Plan, pods: &mut [Pod]) -> anyhow::Result<bool> {
        let mut is_news = false;
        for pod in pods {
            let cost = match &pod.name {
                name if plan.spare.contains(name) => MUST_STAY,
                name if plan.end.contains(name) => CHOSEN,
                _ => MAY_GO,
            };
            if pod.deletion_cost != cost {
                self.api.set_cost(&pod.name, cost).await?;
                pod.deletion_cost = cost;
                is_news = true;
            }
        }
        Ok(is_news)
    }
}

impl Counted for KubernetesDeployment {
    const OWNER: &'static str = "the Deployment";

    fn number(&self) -> &Number {
        &self.replicas
    }

    async fn remove(&mut self, id: &str) -> anyhow::Result<bool> {
        self.api.delete(id).await
    }

    async fn set(&mut self, number: i32) -> anyhow::Result<()> {
        self.replicas.change(number, self.api.set_replicas(number)).await
    }

    async fn lower(&mut self, plan: &Plan, beside: i64, applied: &mut Applied) -> anyhow::Result<()> {
        let before = self.replicas.seen;
        let (replicas, mut pods) = self.look().await?;
        if before != Some(replicas) {
            anyhow::bail!("the number of replicas became {replicas} meanwhile");
        }
        pods.retain(|pod| !pod.is_leaving);
        anyhow::ensure!(
            order::n_replica_sets(&pods) <= 1,
            "a rollout is in progress, so it is unknown which pods Kubernetes would end; waiting for it"
        );
        let victims = signed(plan.end.iter().filter(|id| pods.iter().any(|pod| pod.name == **id)).count());
        let requested = (i64::from(replicas) - signed(pods.len())).max(0);
        // Pods that were asked for and are not there are taken from the number before any pod is ended.
        let without = (i64::from(plan.cancel) + beside).min(requested);
        let among = usize::try_from(victims + (beside - without).max(0)).unwrap_or(0);
        if without == 0 && among == 0 {
            return Ok(());
        }
        if self.write_costs(plan, &mut pods).await? {
            tokio::time::sleep(LET_COSTS_SETTLE).await;
        }
        order::sort(&mut pods);
        let is_safe = |pod: &&Pod| !plan.spare.contains(&pod.name);
        let going: Vec<String> = pods.iter().take_while(is_safe).take(among).map(|pod| pod.name.clone()).collect();
        if going.len() < among
            && let Some(next) = pods.get(going.len())
        {
            applied.problems.push(format!(
                "{} stay, because Kubernetes would end pod {} first, which {}must stay",
                among - going.len(),
                next.name,
                if next.is_ready { "" } else { "is not ready and " }
            ));
        }
        let fewer = without + signed(going.len());
        if fewer > 0 {
            let target = (i64::from(replicas) - fewer).max(0);
            self.set(i32::try_from(target).unwrap_or(i32::MAX)).await?;
            applied.ended.extend(going);
        }
        Ok(())
    }
}

impl WorkerPool for KubernetesDeployment {
    async fn members(&mut self) -> anyhow::Result<Members> {
        let (replicas, mut pods) = self.look().await?;
        let note = self.replicas.look(replicas);
        let is_rollout = order::n_replica_sets(&pods) > 1;
        // While a rollout replaces pods there may be more than the number, and asking for more keeps none of them.
        let phase = if is_rollout { Phase::Draining } else { Phase::Surplus };
        order::sort(&mut pods);
        let mut members: Vec<Member> = pods.iter().map(member).collect();
        let places: Vec<String> = pods.iter().map(|pod| pod.name.clone()).collect();
        let current = if is_rollout { order::newest_replica_set(&pods) } else { None };
        let is_current =
            |id: &str| current.is_some() && pods.iter().any(|pod| pod.name == id && pod.replica_set == current);
        let replicas = natural(replicas);
        mark_surplus(&mut members, replicas, phase, |member| {
            (is_current(&member.id), places.iter().position(|place| *place == member.id))
        });
        members.sort_by(|a, b| a.id.cmp(&b.id));
        let requested = replicas.saturating_sub(n_present(&members));
        Ok(Members { members, requested, most: None, fewest: 0, note })
    }

    async fn carry_out(&mut self, plan: &Plan, applied: &mut Applied) {
        carry_out(self, plan, applied).await;
    }

    fn abilities(&self) -> Abilities {
        // A pod that is deleted may not get the time to finish, so only the idle ones go.
        Abilities { drain_busy: false, end_silent: true }
    }

    async fn check(&mut self) -> anyhow::Result<Vec<Remark>> {
        let mut remarks = Vec::new();
        for missing in self.api.missing_rights().await? {
            remarks.push(Remark::wrong(missing, "add that to the Role of the scaler's service account"));
        }
        let (replicas, pods) = self.look().await?;
        let n_ready = pods.iter().filter(|pod| pod.is_ready && !pod.is_leaving).count();
        let place = self.api.place();
        remarks.push(Remark::Fine(format!("{place}: {replicas} replicas, {} pods, {n_ready} ready", pods.len())));
        let advice = format!("set `terminationGracePeriodSeconds` of its template to {SHORTEST_GRACE_SECS}");
        remarks.push(match self.api.grace_secs().await {
            Ok(secs) if secs < SHORTEST_GRACE_SECS => {
                Remark::doubt(format!("{place}: a pod asked to stop is killed after {secs} s"), advice)
            }
            Ok(secs) => Remark::Fine(format!("{place}: a pod asked to stop has {secs} s to finish")),
            Err(error) => {
                let next = format!("let the scaler get deployments, or make sure yourself: {advice}");
                Remark::doubt(chain(&error), next)
            }
        });
        Ok(remarks)
    }
}

fn member(pod: &Pod) -> Member {
    Member {
        id: pod.name.clone(),
        // An importer calls itself by its host's name, which is the pod's.
        key: Key::Instance(pod.name.clone()),
        phase: match pod.phase {
            _ if pod.is_leaving => Phase::Draining,
            order::PodPhase::Pending => Phase::Pending,
            _ => Phase::Running,
        },
        protected: false,
        since: pod.created_at,
    }
}
