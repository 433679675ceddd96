//! What the commands do.

pub mod check;
pub mod decide;
pub mod history;
pub mod pause;
pub mod run;
pub mod simulate;
