//! What the importer's workers write of themselves, and the scaler reads.

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum WorkerState {
    /// Not receiving yet.
    Starting,
    /// Receiving, without a message.
    Idle,
    /// Importing.
    Busy,
    /// Finishing what it has.
    Draining,
}

impl From<String> for WorkerState {
    /// Reads a worker's word. One that is not known, as of a newer release, is a worker that must not be ended.
    fn from(word: String) -> Self {
        word.parse().unwrap_or(Self::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written_and_unknown_ones_are_busy() {
        for state in [WorkerState::Starting, WorkerState::Idle, WorkerState::Busy, WorkerState::Draining] {
            assert_eq!(WorkerState::from(<&str>::from(state).to_owned()), state);
        }
        assert_eq!(WorkerState::from("thinking".to_owned()), WorkerState::Busy);
    }
}
