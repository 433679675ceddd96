//! The pages of the console: what they say of a ledger, to whom, and when there is none.

mod access;
mod browser;
mod hostile;
mod lists;
mod now;
mod object;
mod reports;
mod staged;
mod stand;
