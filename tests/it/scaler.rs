//! The scaler with real importers, a real queue and a real database.

mod commands;
mod containers;
mod group;
mod hearts;
mod leader;
mod outage;
mod pool;
mod silence;
mod stand;
