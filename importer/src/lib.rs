//! The importer: loads S3 objects named by SQS messages into Postgres, exactly once in effect.

pub mod config;
pub mod database;
pub mod decode;
pub mod encode;
pub mod import;
pub mod ledger;
pub mod load;
pub mod message;
pub mod object;
pub mod order;
pub mod outcome;
pub mod queue;
pub mod route;
