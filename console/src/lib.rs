//! Shows what Penstock did, what is late and what to do, as web pages over Postgres alone.
//!
//! Everything is read: [`read`] asks Postgres within a time, [`page`] says it in HTML and JSON, [`web`] answers who may ask.
//! A [`report`] is a team's own SQL.

pub mod auth;
pub mod cli;
pub mod command;
pub mod config;
pub mod html;
pub mod page;
pub mod program;
pub mod read;
pub mod report;
pub mod shell;
pub mod web;
