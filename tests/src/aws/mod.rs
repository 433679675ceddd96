//! An emulated AWS on this machine: S3, SNS, SQS and EventBridge, and a second emulator for Auto Scaling.

mod account;
mod emulator;
mod pipeline;
mod stacks;
mod venv;

pub use account::{Account, REGION, Stored};
pub use emulator::{ENDPOINT_VARIABLE, Emulator, Kind};
pub use pipeline::{Depth, Options, Pipeline, Received, Route};
pub use stacks::{Outputs, texts};
pub use venv::python;
