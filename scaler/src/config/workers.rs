//! What a pool's workers are.

use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

/// What a pool's workers are.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkersKind {
    /// Instances of an Auto Scaling group.
    Asg {
        /// The group's name.
        group: String,
    },
    /// Child processes of the scaler on this machine.
    Processes {
        /// The program and its arguments.
        command: Vec<String>,
        /// Variables added to the scaler's own environment.
        #[serde(default)]
        env: BTreeMap<String, String>,
        /// The directory the processes run in; the scaler's own when absent.
        directory: Option<PathBuf>,
        /// The directory their output goes to, a file each; with the scaler's own output when absent.
        log_directory: Option<PathBuf>,
    },
    /// Nothing is started or stopped; decisions are only recorded.
    DryRun {},
    /// Tasks of an ECS service.
    Ecs {
        /// The cluster's name or ARN.
        #[serde(default = "default_cluster")]
        cluster: String,
        /// The service's name.
        service: String,
    },
    /// Pods of a Kubernetes Deployment.
    Kubernetes {
        /// The namespace; the context's, or the one the scaler's own pod is in, when absent.
        namespace: Option<String>,
        /// The Deployment's name.
        deployment: String,
    },
}

impl WorkersKind {
    /// Returns the kind's name in the file, and whether it is part of this build.
    pub(super) fn built_in(&self) -> (&'static str, bool) {
        match self {
            Self::Asg { .. } => ("asg", true),
            Self::Processes { .. } => ("processes", true),
            Self::DryRun {} => ("dry_run", true),
            Self::Ecs { .. } => ("ecs", cfg!(feature = "ecs")),
            Self::Kubernetes { .. } => ("kubernetes", cfg!(feature = "kubernetes")),
        }
    }

    /// Returns the path of a setting that is wrong, and what is wrong with it.
    pub(super) fn mistake(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Processes { command, .. } if command.is_empty() => Some(("workers.command", "must name a program")),
            Self::Asg { group } if group.is_empty() => Some(("workers.group", "must not be empty")),
            Self::Ecs { cluster, .. } if cluster.is_empty() => {
                Some(("workers.cluster", "must not be empty; leave it out for the cluster \"default\""))
            }
            Self::Ecs { service, .. } if service.is_empty() => Some(("workers.service", "must not be empty")),
            Self::Kubernetes { namespace: Some(namespace), .. } if namespace.is_empty() => {
                Some(("workers.namespace", "must not be empty; leave it out for the scaler's own"))
            }
            Self::Kubernetes { deployment, .. } if deployment.is_empty() => {
                Some(("workers.deployment", "must not be empty"))
            }
            _ => None,
        }
    }
}

fn default_cluster() -> String {
    "default".to_owned()
}
