//! Why objects fail, in a word.

use strum::{Display, IntoStaticStr};

/// Why an object failed: a short stable word for the ledger, the dead-letter queue and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// What it takes may not be read or written.
    Access,
    /// The object has to be restored first.
    Archived,
    /// The program that rows pass through failed, or did not keep to what was agreed.
    Command,
    /// Postgres refuses the values.
    Constraint,
    /// The bytes are not what they say they are.
    Corrupt,
    /// The database's encoding cannot hold the object's name.
    Encoding,
    /// It cannot be imported again.
    ForceRefused,
    /// A transform made several rows of one.
    FanOut,
    /// It went to the dead-letter queue before.
    Forwarded,
    /// Unforeseen: it may pass, and is tried [`super::ODD_TRIES`] times before it is believed.
    Internal,
    /// The object goes beyond a limit.
    Limits,
    /// There is no such bucket.
    NoBucket,
    /// The store refuses it for good.
    Refused,
    /// The object's fields and the table cannot be brought together, or the table is not as it must be.
    Schema,
    /// More rows were refused than the dataset allows.
    TooManyRejects,
    /// A transform took too long, [`super::ODD_TRIES`] times.
    TransformTimeout,
    /// The message itself cannot be read.
    UnreadableMessage,
    /// No dataset takes it.
    Unrouted,
    /// S3's event is of a version that is not understood.
    UnsupportedEvent,
}
