//! The protocol behind «exactly once in effect», against real concurrent transactions: the importer as a
//! library, a real Postgres, and a store whose bodies wait for the test.

mod bench;
mod columns;
mod counts;
mod deliveries;
mod groups;
mod identity;
mod merges;
mod modes;
mod order;
mod races;
mod removal;
mod schemas;
mod sessions;
mod shelf;
mod stopped;
mod techniques;
