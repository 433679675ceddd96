//! Stand-ins for what no emulator has: an EC2 instance's metadata and its Auto Scaling group's lifecycle,
//! the agent of an ECS task, an ECS service that heeds its tasks' protection, a Kubernetes API server, and a token
//! service. They answer as the real ones do, and keep what they were told.

mod agent;
mod ec2;
mod ecs;
mod kubernetes;
mod server;
mod sts;

pub use agent::Agent;
pub use ec2::{Ec2, GROUP, HOOK, INSTANCE};
pub use ecs::{CLUSTER, Ecs, EcsFault, EcsService, EcsTask, SERVICE};
pub use kubernetes::{Cluster, DEPLOYMENT, FakePod, Kubernetes, NAMESPACE};
pub use sts::Sts;
