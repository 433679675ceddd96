//! What is asked first: is data late, what is broken, is the pool able, is Postgres the limit, what changed?

mod changes;
mod datasets;
mod pools;
mod problems;
mod server;

pub use changes::{Change, Changes, Made, Release, changes};
pub use datasets::{DatasetNow, datasets};
pub use pools::{Lateness, PoolNow, lateness, pools};
pub use problems::{Kind, Problem, Sample, gathered, of_failure, of_pools, problems, sort};
pub use server::{Server, server};
