//! Calls into libraries that may panic on hostile bytes.

use super::DecodeError;
use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether a panic of this thread is about to be caught here.
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
    /// Where the last contained panic was.
    static PLACE: Cell<String> = const { Cell::new(String::new()) };
}

/// Runs `decode`; a panic in it means that the bytes are corrupt, and is not printed.
///
/// What `decode` borrows mutably must not be used on after an error.
pub fn contained<T>(decode: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    static QUIET_HOOK: Once = Once::new();
    QUIET_HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_CONTAINED.get() {
                PLACE.set(info.location().map(ToString::to_string).unwrap_or_default());
            } else {
                loud(info);
            }
        }));
    });
    let outer = IS_CONTAINED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(decode));
    IS_CONTAINED.set(outer);
    // What a panic says may quote the bytes: a slice through a character, an unwrapped error.
    result.unwrap_or_else(|_| {
        let place = PLACE.take();
        Err(DecodeError::Corrupt(format!(
            "what makes no sense to the decoder (it panicked at {})",
            within_crate(&place)
        )))
    })
}

/// Returns a place in the sources from its crate on, without where somebody keeps it.
fn within_crate(place: &str) -> &str {
    let in_registry = place.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/'));
    in_registry.map_or(place, |(_, within)| within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_corrupt_data_and_says_where_but_nothing_of_the_data() {
        let result = contained::<()>(|| panic!("SECRET out of range"));
        let Err(DecodeError::Corrupt(message)) = result else { panic!("corrupt") };
        assert!(message.starts_with("what makes no sense") && message.contains("contain.rs:"), "{message}");
        assert!(!message.contains("SECRET") && !IS_CONTAINED.get());
    }

    #[test]
    fn a_place_is_said_without_the_machine_it_was_built_on() {
        let place = "/home/me/.cargo/registry/src/index-1949/parquet-1.0.0/src/file.rs:1:2";
        assert_eq!(within_crate(place), "parquet-1.0.0/src/file.rs:1:2");
        assert_eq!(within_crate("decode/src/file.rs:1:2"), "decode/src/file.rs:1:2");
    }

    #[test]
    fn a_contained_panic_is_not_printed() {
        let itself = std::env::current_exe().expect("the test's own program");
        let test = "contain::tests::a_panic_is_corrupt_data_and_says_where_but_nothing_of_the_data";
        let ended = std::process::Command::new(itself).args(["--exact", test, "--nocapture"]).output();
        let ended = ended.expect("it starts");
        let printed = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        assert!(printed.contains("1 passed") && !printed.contains("SECRET"), "{printed}");
    }
}
