//! The pool a configuration asks for: the one place that knows every kind.

#[cfg(feature = "ecs")]
use super::ecs::EcsService;
#[cfg(feature = "kubernetes")]
use super::kubernetes::KubernetesDeployment;
use super::{
    Abilities, Applied, Members, Plan, Remark, WorkerPool,
    processes::{Processes, Settings},
};
use super::{asg::AutoScalingGroup, dry_run::DryRun};
use crate::config::{ConfigError, Pool, WorkersKind};
use aws_config::SdkConfig;

/// A pool of any kind that is built in.
pub enum AnyPool {
    /// Instances of an Auto Scaling group.
    Asg(AutoScalingGroup),
    /// Child processes.
    Processes(Processes),
    /// Only watched.
    DryRun(DryRun),
    /// Tasks of an ECS service.
    #[cfg(feature = "ecs")]
    Ecs(EcsService),
    /// Pods of a Deployment.
    #[cfg(feature = "kubernetes")]
    Kubernetes(KubernetesDeployment),
}

/// Does the same with a pool of any kind.
macro_rules! with {
    ($pool:expr, $inner:ident => $work:expr) => {
        match $pool {
            AnyPool::Asg($inner) => $work,
            AnyPool::Processes($inner) => $work,
            AnyPool::DryRun($inner) => $work,
            #[cfg(feature = "ecs")]
            AnyPool::Ecs($inner) => $work,
            #[cfg(feature = "kubernetes")]
            AnyPool::Kubernetes($inner) => $work,
        }
    };
}

impl AnyPool {
    /// Prepares a pool's workers; nothing is called yet.
    ///
    /// # Errors
    /// As [`Pool::check_runnable`].
    pub fn open(pool: &Pool, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let timeouts = pool.timeouts();
        let aws = &timeouts.aws(aws, false);
        Ok(match pool.check_runnable()?.clone() {
            WorkersKind::Asg { group } => Self::Asg(AutoScalingGroup::new(aws, group)),
            WorkersKind::Processes { command, env, directory, log_directory } => {
                let settings = Settings { command, env, directory, log_directory };
                Self::Processes(Processes::new(settings, pool.mark(), timeouts.call()))
            }
            WorkersKind::DryRun {} => Self::DryRun(DryRun::default()),
            #[cfg(feature = "ecs")]
            WorkersKind::Ecs { cluster, service } => Self::Ecs(EcsService::new(aws, cluster, service)),
            #[cfg(feature = "kubernetes")]
            WorkersKind::Kubernetes { namespace, deployment } => {
                Self::Kubernetes(KubernetesDeployment::new(namespace, deployment, timeouts.call()))
            }
            #[cfg(not(feature = "ecs"))]
            kind @ WorkersKind::Ecs { .. } => return Err(pool.not_built_in(&kind)),
            #[cfg(not(feature = "kubernetes"))]
            kind @ WorkersKind::Kubernetes { .. } => return Err(pool.not_built_in(&kind)),
        })
    }
}

impl WorkerPool for AnyPool {
    async fn members(&mut self) -> anyhow::Result<Members> {
        with!(self, pool => pool.members().await)
    }

    async fn carry_out(&mut self, plan: &Plan, applied: &mut Applied) {
        with!(self, pool => pool.carry_out(plan, applied).await)
    }

    fn abilities(&self) -> Abilities {
        with!(self, pool => pool.abilities())
    }

    async fn hand_over(&mut self) {
        with!(self, pool => pool.hand_over().await)
    }

    async fn close(&mut self) {
        with!(self, pool => pool.close().await)
    }

    async fn check(&mut self) -> anyhow::Result<Vec<Remark>> {
        with!(self, pool => pool.check().await)
    }
}
