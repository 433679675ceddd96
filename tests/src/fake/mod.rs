//! Stand-ins for what no emulator has: an EC2 instance's metadata and its Auto Scaling group's lifecycle,
//! and the agent of an ECS task. They answer as the real ones do, and keep what they were told.

mod agent;
mod ec2;
mod server;

pub use agent::Agent;
pub use ec2::{Ec2, GROUP, HOOK, INSTANCE};
