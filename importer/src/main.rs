//! The `importer` program by itself; its work is the library's.

fn main() -> std::process::ExitCode {
    importer::program::main(std::env::args_os().collect())
}
