//! The `console` program by itself; its work is the library's.

fn main() -> std::process::ExitCode {
    console::program::main(std::env::args_os().collect())
}
