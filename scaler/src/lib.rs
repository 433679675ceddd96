//! Sizes a pool of Penstock importers to the depth of their SQS queues.
//!
//! The decision is pure ([`policy::decide`]); everything else observes for it
//! or carries out what it said.

pub mod cli;
pub mod command;
pub mod config;
pub mod decision;
pub mod logging;
pub mod observation;
pub mod policy;
pub mod sim;
