//! The `scaler` program by itself; its work is the library's.

fn main() -> std::process::ExitCode {
    scaler::program::main(std::env::args_os().collect())
}
