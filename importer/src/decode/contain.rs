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
}

/// Runs `decode`; a panic in it means that the bytes are corrupt, and is not printed.
///
/// What `decode` borrows mutably must not be used on after an error.
pub fn contained<T>(decode: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    static QUIET_HOOK: Once = Once::new();
    QUIET_HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_CONTAINED.get() {
                loud(info);
            }
        }));
    });
    let outer = IS_CONTAINED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(decode));
    IS_CONTAINED.set(outer);
    result.unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("the decoder gave up");
        Err(DecodeError::Corrupt(message.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_corrupt_data() {
        let result = contained::<()>(|| panic!("index {} out of range", 7));
        assert!(matches!(result, Err(DecodeError::Corrupt(message)) if message == "index 7 out of range"));
        assert!(!IS_CONTAINED.get());
    }
}
