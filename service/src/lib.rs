//! What the programs share: how they are configured and reach AWS and Postgres, what they answer over HTTP, and what they show to people.

pub mod aws;
pub mod chart;
pub mod config;
pub mod due;
pub mod findings;
pub mod host;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod postgres;
pub mod program;
pub mod terminal;
pub mod time;
pub mod words;
pub mod worker;
