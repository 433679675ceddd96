//! The build script of the programs: finds out the version that `--version` prints.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=../build.rs");
    println!("cargo:rerun-if-env-changed=PENSTOCK_COMMIT");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    println!("cargo:rustc-env=PENSTOCK_VERSION={} ({})", variable("CARGO_PKG_VERSION"), commit(&variable));
}

/// Returns the commit: what the environment says, as in a container without git, else the checkout's.
fn commit(variable: &impl Fn(&str) -> String) -> String {
    let given = variable("PENSTOCK_COMMIT");
    if !given.is_empty() {
        return given;
    }
    // A developer's build would compile everything again after each commit, for a line nobody reads.
    if variable("PROFILE") != "release" {
        return "debug build".into();
    }
    // A source archive unpacked within another project's checkout has no commit of its own.
    if git(&["rev-parse", "--show-prefix"]).as_deref() != Some(&format!("{}/", variable("CARGO_PKG_NAME"))) {
        return "unknown".into();
    }
    // They change with each commit and each checkout; naming a file that is not there would build anew every time.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".into())
}

/// Returns what git prints, if there is git and it has an answer.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
