//! What a file's own schema says of its fields, for building a table from it.

/// The type of a field, as far as it decides what could hold its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// True or false.
    Bool,
    /// A signed integer of this many bits.
    Int(u8),
    /// An unsigned integer of this many bits.
    UInt(u8),
    /// A single-precision float, or a shorter one.
    Float32,
    /// A double-precision float.
    Float64,
    /// A decimal; its precision where the schema has one, and its scale where all values share it.
    Decimal(Option<(u32, u32)>),
    /// A date.
    Date,
    /// A time of day; whether it may be finer than microseconds.
    Time {
        /// Decoding cuts what is finer than a microsecond.
        nanos: bool,
    },
    /// A timestamp.
    Timestamp {
        /// It is an instant.
        utc: bool,
        /// Decoding cuts what is finer than a microsecond.
        nanos: bool,
    },
    /// A timestamp that does not say whether it is an instant (INT96).
    Int96,
    /// Text.
    Text,
    /// JSON as text.
    Json,
    /// A UUID's bytes.
    Uuid,
    /// Bytes of which nothing more is known.
    Bytes,
    /// Months, days and milliseconds.
    Interval,
    /// A list of values of one type that is not nested itself.
    List(Box<Declared>),
    /// Lists of lists, structures and maps.
    Nested,
    /// Values of several types.
    Mixed,
    /// Nothing but NULL.
    Null,
}
