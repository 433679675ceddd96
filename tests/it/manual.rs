//! What the programs say of themselves: versions, completions, man pages.

use anyhow::{Context as _, Result};
use penstock_tests::{
    process::{self, Ended, Program},
    scratch::Scratch,
};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(60);

const PROGRAMS: [&str; 3] = ["importer", "scaler", "console"];

#[tokio::test]
async fn completions_and_man_pages_name_each_command() -> Result<()> {
    for program in PROGRAMS {
        let commands = commands(program).await?;
        assert!(commands.len() > 4 && commands.contains("check"), "{commands:?}");
        for shell in ["bash", "zsh", "fish"] {
            let script = run(program, &["completions", shell]).await?.stdout;
            for command in &commands {
                assert!(script.contains(command.as_str()), "{program} {shell}: {command}");
            }
            check_syntax(shell, &script)?;
        }
        let scratch = Scratch::new("man")?;
        let directory = scratch.path().join("man1");
        run(program, &["man", &directory.display().to_string()]).await?;
        let mut expected: BTreeSet<String> = commands.iter().map(|command| format!("{program}-{command}.1")).collect();
        expected.insert(format!("{program}.1"));
        let written = fs::read_dir(&directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        assert_eq!(written.collect::<Result<BTreeSet<String>>>()?, expected);
        let main = fs::read_to_string(directory.join(format!("{program}.1")))?;
        for command in &commands {
            assert!(main.contains(&command.replace('-', "\\-")), "{program}.1: {command}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn versions_name_the_commit() -> Result<()> {
    for program in PROGRAMS {
        let said = run(program, &["--version"]).await?.stdout;
        let version = said.trim().strip_prefix(&format!("{program} ")).context("its name first")?;
        let (number, commit) = version.split_once(' ').context("version and commit")?;
        assert_eq!(number.split('.').count(), 3, "{said}");
        let commit = commit.trim_start_matches('(').trim_end_matches(')');
        let is_hash = commit.len() >= 7 && commit.chars().all(|c| c.is_ascii_hexdigit());
        assert!(is_hash || ["debug build", "unknown"].contains(&commit), "{said}");
    }
    Ok(())
}

#[test]
fn a_release_names_the_checkout_s_commit_unless_the_environment_names_another() -> Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let scratch = Scratch::new("version")?;
    let script = scratch.path().join("build");
    let mut compile = Command::new("rustc");
    compile.args(["--edition", "2024", "-o"]).arg(&script).arg(top.join("build.rs"));
    let compiled = compile.output().context("run rustc")?;
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));

    // A checkout with one commit, and a package of that name in it.
    let checkout = scratch.path().join("checkout");
    fs::create_dir_all(checkout.join("importer"))?;
    git(&checkout, &["init", "--quiet"])?;
    let identity = ["-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "core.hooksPath=/dev/null"];
    git(&checkout, &[&identity[..], &["commit", "--quiet", "--no-gpg-sign", "--allow-empty", "-m", "x"]].concat())?;
    let hash = git(&checkout, &["rev-parse", "--short", "HEAD"])?;
    let printed = |directory: &Path, profile: &str, commit: &str| -> Result<String> {
        let script = Command::new(&script)
            .current_dir(directory)
            .envs([
                ("PROFILE", profile),
                ("PENSTOCK_COMMIT", commit),
                ("CARGO_PKG_VERSION", "1.2.3"),
                ("CARGO_PKG_NAME", "importer"),
            ])
            .env("GIT_CEILING_DIRECTORIES", scratch.path())
            .output()?;
        Ok(String::from_utf8(script.stdout)?)
    };
    let version = |printed: &str| {
        printed.lines().find_map(|line| line.split_once("PENSTOCK_VERSION=")).map(|found| found.1.to_owned())
    };
    let package = checkout.join("importer");
    let release = printed(&package, "release", "")?;
    assert_eq!(version(&release), Some(format!("1.2.3 ({hash})")));
    assert_eq!(version(&printed(&package, "debug", "")?).as_deref(), Some("1.2.3 (debug build)"));
    assert_eq!(version(&printed(&package, "debug", "abc1234")?).as_deref(), Some("1.2.3 (abc1234)"));
    assert_eq!(version(&printed(&package, "release", "abc1234")?).as_deref(), Some("1.2.3 (abc1234)"));
    // Outside a checkout, and in one of something else.
    assert_eq!(version(&printed(scratch.path(), "release", "")?).as_deref(), Some("1.2.3 (unknown)"));
    assert_eq!(version(&printed(&checkout, "release", "")?).as_deref(), Some("1.2.3 (unknown)"));
    // What is watched exists, or every build would be a new one.
    let watched: Vec<&str> = release.lines().filter_map(|line| line.strip_prefix("cargo:rerun-if-changed=")).collect();
    assert!(watched.iter().any(|path| path.ends_with("logs/HEAD")), "{watched:?}");
    for path in watched.iter().filter(|path| path.contains(".git")) {
        assert!(package.join(path).exists(), "{path}");
    }
    Ok(())
}

#[test]
fn what_is_handed_out_is_static_and_complete() -> Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let scratch = Scratch::new("dist")?;
    let built = process::binary("importer")?.parent().context("a directory")?.to_owned();
    let collect = |from: &Path| {
        let mut collect = Command::new(top.join("infra/dist/collect.sh"));
        collect.arg(from).arg(scratch.path().join("dist")).output().context("run collect.sh")
    };
    // A developer's build needs the machine's C library.
    let refused = collect(&built)?;
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("needs shared libraries"), "{refused:?}");

    let from = scratch.path().join("static");
    fs::create_dir(&from)?;
    let path = from.join("penstock");
    let started_as = "\"$(basename \"$0\")\"";
    fs::write(&path, format!("#!/bin/sh\nexec '{}' {started_as} \"$@\"\n", built.join("penstock").display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let collected = collect(&from)?;
    assert!(collected.status.success(), "{}", String::from_utf8_lossy(&collected.stderr));
    for file in [
        "bin/penstock",
        "bin/importer",
        "bin/scaler",
        "bin/console",
        "man/man1/importer.1",
        "man/man1/importer-load.1",
        "man/man1/scaler-run.1",
        "man/man1/console-run.1",
        "completions/importer.bash",
        "completions/_scaler",
        "completions/scaler.fish",
    ] {
        assert!(fs::metadata(scratch.path().join("dist").join(file)).is_ok_and(|file| file.len() > 0), "{file}");
    }
    let said = String::from_utf8(collected.stdout)?;
    assert!(PROGRAMS.iter().all(|program| said.contains(&format!("{program} "))), "{said}");
    Ok(())
}

#[test]
fn one_program_is_the_three_by_its_name() -> Result<()> {
    let scratch = Scratch::new("penstock")?;
    let program = scratch.path().join("penstock");
    let built = process::binary("penstock")?;
    fs::hard_link(&built, &program).or_else(|_| fs::copy(&built, &program).map(drop))?;
    let run = |path: &Path, arguments: &[&str]| -> Result<(Option<i32>, String, String)> {
        let mut command = Command::new(path);
        command.args(arguments).current_dir(scratch.path()).env("PATH", "/nowhere").env_remove("GLIBC_TUNABLES");
        let output = command.output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    };
    for name in PROGRAMS {
        let link = scratch.path().join(name);
        symlink("penstock", &link)?;
        for arguments in [&["--version"][..], &["--help"], &["run", "--faster"], &["run", "--config", "none.toml"]] {
            let itself = run(&process::binary(name)?, arguments)?;
            assert_eq!(run(&link, arguments)?, itself, "{name} {arguments:?}");
            assert_eq!(run(&program, &[&[name], arguments].concat())?, itself, "penstock {name} {arguments:?}");
        }
    }
    // The importer starts itself anew by the file it was read from, and is the importer still.
    let (status, _, said) = run(&scratch.path().join("importer"), &["load", "--config", "none.toml", "a.csv"])?;
    assert!(status == Some(2) && said.starts_with("importer: "), "{said}");
    // A pool of processes finds the importer beside the scaler.
    let pool = "[database]\nurl = \"postgres://x@127.0.0.1:9/x\"\n[[pool]]\nname = \"a\"\nqueue_urls = [\"http://127.0.0.1:9/1/q\"]\n\
                max = 1\ndrain_within = \"5m\"\n[pool.workers]\nkind = \"processes\"\ncommand = [\"importer\", \"run\"]\n";
    scratch.write("scaler.toml", pool)?;
    let (_, said, _) = run(&scratch.path().join("scaler"), &["check"])?;
    assert!(said.contains("processes: importer on "), "{said}");
    fs::remove_file(scratch.path().join("importer"))?;
    let (_, said, _) = run(&scratch.path().join("scaler"), &["check"])?;
    assert!(said.contains("importer is neither in PATH nor beside the scaler"), "{said}");
    for (arguments, status) in [(&["--help"][..], 0), (&["--version"], 0), (&[], 2), (&["importers"], 2)] {
        assert_eq!(run(&program, arguments)?.0, Some(status), "{arguments:?}");
    }
    Ok(())
}

#[test]
fn the_guide_s_command_lines_are_understood() -> Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guide = fs::read_to_string(top.join("docs/guides/first-contact.md"))?;
    let mut n_checked = 0;
    for line in guide.lines().filter(|line| PROGRAMS.iter().any(|program| line.starts_with(&format!("{program} ")))) {
        let line = line.split(['|', '>']).next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let understood = Command::new(process::binary(words[0])?).args(&words[1..]).arg("--help").output()?;
        assert!(understood.status.success(), "{line}");
        n_checked += 1;
    }
    assert!(n_checked >= 8, "{n_checked}");
    Ok(())
}

async fn run(program: &str, arguments: &[&str]) -> Result<Ended> {
    let ended = Program::new(program).args(arguments).run(LIMIT).await?;
    assert!(ended.status.success(), "{program} {arguments:?}: {}", ended.stderr);
    Ok(ended)
}

/// Returns the commands that `--help` lists.
async fn commands(program: &str) -> Result<BTreeSet<String>> {
    let help = run(program, &["--help"]).await?.stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    Ok(names.map(str::to_owned).collect())
}

/// Lets the shell read a script, where there is such a shell.
fn check_syntax(shell: &str, script: &str) -> Result<()> {
    let scratch = Scratch::new("completions")?;
    let file = scratch.write("script", script)?;
    match Command::new(shell).arg("-n").arg(file).output() {
        Ok(output) => assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => assert_ne!(shell, "bash", "{error}"),
    }
    Ok(())
}

fn git(directory: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(directory).args(arguments).output().context("run git")?;
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
