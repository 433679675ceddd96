//! Sizes a pool of Penstock importers to the depth of their SQS queues.
//!
//! The decision is pure ([`policy::decide`]); everything else observes for it
//! or carries out what it said.

pub mod cli;
pub mod command;
pub mod config;
pub mod controller;
pub mod database;
pub mod decision;
pub mod due;
pub mod leader;
pub mod metrics;
pub mod observation;
pub mod policy;
pub mod pool;
pub mod program;
pub mod queue_depth;
pub mod sim;
pub mod sink_watch;
pub mod store;
pub mod timeouts;
