//! Sizes a pool of Penstock importers to the depth of their SQS queues.
//!
//! The decision is pure ([`policy::decide`]); everything else observes for it
//! or carries out what it said.

pub mod config;
pub mod decision;
pub mod observation;
pub mod policy;
pub mod sim;
