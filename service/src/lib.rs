//! What both programs share: how they reach AWS and Postgres.

pub mod aws;
pub mod config;
pub mod postgres;
