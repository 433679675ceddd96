//! What the commands do.

pub mod check;
pub mod decide;
pub mod history;
pub mod run;
pub mod simulate;
