//! The importer: loads S3 objects named by SQS messages into Postgres, exactly once in effect.

pub mod cli;
pub mod commands;
pub mod config;
pub mod database;
pub mod dataset;
pub mod describe;
pub mod import;
pub mod instance;
pub mod ledger;
pub mod load;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod object;
pub mod order;
pub mod outcome;
pub mod pattern;
pub mod program;
pub mod queue;
pub mod route;
pub mod worker;
