//! The importer, the scaler and the console in one program, so that what they stand on is there once.
//!
//! It is the one whose name it is started under (a link to it will do), or else the one that its first argument names.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::Path,
    process::ExitCode,
};

/// What a program does with its arguments.
type Main = fn(Vec<OsString>) -> ExitCode;

/// The programs, each with what it does with its arguments, its name first.
const PROGRAMS: [(&str, Main); 3] =
    [("importer", importer::program::main), ("scaler", scaler::program::main), ("console", console::program::main)];

const USAGE: &str = "\
Usage: penstock importer|scaler|console [OPTIONS] <COMMAND>

A link to this program by one of these names is that program; `penstock importer --help` says what it does.";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let named = |name: &OsStr| PROGRAMS.iter().find(|(program, _)| name == *program);
    let own = arguments.first().and_then(|path| Path::new(path).file_name());
    if let Some((_, main)) = own.and_then(named) {
        return main(arguments);
    }
    let first = arguments.get(1);
    if let Some((_, main)) = first.and_then(|argument| named(argument)) {
        return main(arguments[1..].to_vec());
    }
    match first.and_then(|argument| argument.to_str()) {
        Some("--version" | "-V") => println!("penstock {}", importer::cli::VERSION),
        Some("--help" | "-h") => println!("{USAGE}"),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
