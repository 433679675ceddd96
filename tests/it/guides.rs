//! The guides' commands do what they say: those marked `sh run` are run, the others say why they are not.
//!
//! A guide is a Markdown file in `docs/guides`, the README, or one of the examples. In it a fenced block of
//! commands is either
//!
//! - opened by three backticks and `sh run`: this test runs it, or
//! - opened by three backticks and `sh`, after a line `<!-- not run here: REASON -->`.
//!
//! All `sh run` blocks of a guide are one shell session (`sh -eu`), as for a reader with one terminal, in
//! an empty directory with copies of the repository's `examples`, `infra`, `migrations` and `Makefile`. The session has
//! `DATABASE_URL` (a fresh database on a server of the guide's own, as superuser), `QUEUE_URL` (an empty
//! queue with a dead-letter queue), `BUCKET` (an empty bucket that announces its objects to the queue), the
//! `AWS_…` variables to reach them, and in its `PATH` the built programs and those of Postgres.

use crate::world::LIMIT;
use anyhow::{Context as _, Result, bail, ensure};
use penstock_tests::{
    aws::{Account, Options},
    postgres::{self, Postgres},
    process, repository,
    scratch::Scratch,
    spawn, wait,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

/// Words that open a block of commands elsewhere; here there is one.
const OTHER_SHELLS: [&str; 5] = ["bash", "shell", "console", "zsh", "shell-session"];
/// What stands before a block that is not run.
const MARK: &str = "<!-- not run here: ";

/// A fenced block of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    /// Of its first line in the guide, from 1.
    line: usize,
    /// Whether this test runs it.
    run: bool,
    commands: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_commands_work_as_they_stand() -> Result<()> {
    let mut n_run = 0;
    for guide in guides()? {
        let blocks = blocks(&fs::read_to_string(&guide)?).with_context(|| guide.display().to_string())?;
        let to_run: Vec<Block> = blocks.into_iter().filter(|block| block.run).collect();
        if !to_run.is_empty() {
            run(&to_run, LIMIT).await.with_context(|| guide.display().to_string())?;
        }
        n_run += to_run.len();
    }
    ensure!(n_run > 0, "no guide has a command to run");
    Ok(())
}

/// Who has followed one guide may follow the next in the same terminal, with the same database, or the first again.
#[tokio::test(flavor = "multi_thread")]
async fn guides_followed_one_after_the_other_do_not_collide() -> Result<()> {
    let guides = guides()?;
    // The examples say what is in the ledger after their first time.
    let again = guides.iter().rev().filter(|guide| !guide.ends_with("examples/README.md"));
    let mut all = Vec::new();
    for guide in guides.iter().chain(again) {
        all.push(Block { line: 0, run: true, commands: format!("echo 'now {}'\n", guide.display()) });
        all.extend(blocks(&fs::read_to_string(guide)?)?.into_iter().filter(|block| block.run));
    }
    run(&all, LIMIT * 10).await
}

/// What is on a command line is there for everybody on the machine to read, and stays in the shell's history.
#[test]
fn no_guide_puts_a_secret_on_a_command_line_or_beside_what_git_knows() -> Result<()> {
    for guide in guides()? {
        let text = fs::read_to_string(&guide)?;
        let name = guide.display();
        for line in text.lines() {
            for word in ["--secret-string \"", "$(cat", "PASSWORD=", "from-literal"] {
                assert!(!line.contains(word) || line.contains("REPORTS"), "{name}: {line}");
            }
        }
        // What holds a password is made where git looks away, or outside the repository.
        for path in text.split_whitespace().filter_map(|word| word.strip_prefix('>')) {
            let path = path.trim_start_matches('>');
            if path.ends_with("database-url") || path.ends_with("passwords") || path.ends_with(".env") {
                assert!(path.starts_with('/') || git_ignores(path)?, "{name}: {path}");
            }
        }
    }
    for path in ["deploy/x", "owner.database-url", "a/console.passwords", "owner.pgpass"] {
        assert!(git_ignores(path)?, "{path}");
    }
    assert!(!git_ignores("infra/compose/console.passwords")?, "part of the repository");
    Ok(())
}

fn git_ignores(path: &str) -> Result<bool> {
    let mut git = std::process::Command::new("git");
    git.current_dir(repository()).args(["check-ignore", "--quiet", "--no-index", path]);
    Ok(git.status()?.success())
}

#[test]
fn a_block_that_is_neither_run_nor_marked_is_refused() {
    let check = |text: &str, expected: &str| {
        let found = match blocks(text) {
            Ok(blocks) => {
                let shown = blocks.iter().map(|block| format!("{} {} {:?}", block.line, block.run, block.commands));
                shown.collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("{error:#}"),
        };
        assert!(found.contains(expected), "{text:?}: {found}, not {expected}");
    };
    check("```sh run\nls\n```\n", "2 true \"ls\\n\"");
    check("<!-- not run here: needs AWS -->\n```sh\naws\n```\n", "3 false \"aws\\n\"");
    check("<!-- not run here: needs AWS -->\n\n```sh\naws\n```\n", "4 false \"aws\\n\"");
    check("- in a list:\n\n  ```sh run\n  if x; then\n    y\n  fi\n  ```\n", "4 true \"if x; then\\n  y\\nfi\\n\"");
    check("```toml\na = 1\n```\n", "");
    check("```sh\naws\n```\n", "line 1: neither `sh run` nor marked");
    check("<!-- not run here:  -->\n```sh\naws\n```\n", "line 2: neither `sh run` nor marked");
    check("<!-- not run here: old -->\ntext\n```sh\naws\n```\n", "line 3: neither `sh run` nor marked");
    check("```bash\naws\n```\n", "line 1: commands are `sh`");
    check("```\naws\n```\n", "line 1: says not what it is");
    check("```sh walk\naws\n```\n", "line 1: neither `sh run` nor marked");
    check("```sh run\nls\n", "line 1: has no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_is_named_by_its_line() -> Result<()> {
    let blocks =
        blocks("```sh run\nX=7\n```\nThen:\n```sh run\ntest \"$X\" = 7\ntest -n \"$QUEUE_URL\"\nfalse\n```\n")?;
    let error = format!("{:#}", run(&blocks, LIMIT).await.expect_err("it fails"));
    assert!(error.contains("the block at line 6"), "{error}");
    Ok(())
}

fn guides() -> Result<Vec<PathBuf>> {
    let pages = ["README.md", "examples/README.md", "examples/pipeline/README.md"];
    let mut guides: Vec<PathBuf> = pages.into_iter().map(|page| repository().join(page)).collect();
    for entry in fs::read_dir(repository().join("docs/guides"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            guides.push(path);
        }
    }
    guides.sort();
    Ok(guides)
}

/// Returns a guide's blocks of commands.
///
/// # Errors
/// A fence that breaks the rules above; with its line.
fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    let mut marked = false;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        let bare = line.trim_start();
        let Some(info) = bare.strip_prefix("```") else {
            if let Some(reason) = bare.strip_prefix(MARK) {
                marked = !reason.trim_end_matches("-->").trim().is_empty();
            } else if !bare.is_empty() {
                marked = false;
            }
            continue;
        };
        let indent = line.len() - bare.len();
        let mut commands = String::new();
        loop {
            let (_, line) = lines.next().with_context(|| format!("the block at line {number}: has no end"))?;
            if line.trim_start().starts_with("```") {
                break;
            }
            commands.push_str(line.get(indent..).unwrap_or_default());
            commands.push('\n');
        }
        let run = match info.trim() {
            "" => bail!("the block at line {number}: says not what it is"),
            "sh run" => true,
            "sh" if marked => false,
            other => match other.split_whitespace().next().unwrap_or_default() {
                "sh" => bail!("the block at line {number}: neither `sh run` nor marked `{MARK}REASON -->`"),
                word if OTHER_SHELLS.contains(&word) => {
                    bail!("the block at line {number}: commands are `sh` in guides, not `{word}`")
                }
                _ => {
                    marked = false;
                    continue;
                }
            },
        };
        marked = false;
        found.push(Block { line: number + 1, run, commands });
    }
    Ok(found)
}

/// Runs the blocks of one guide in one shell.
async fn run(blocks: &[Block], limit: Duration) -> Result<()> {
    let scratch = Scratch::new("guide")?;
    let place = scratch.path().join("penstock");
    fs::create_dir(&place)?;
    for name in ["examples", "infra", "migrations"] {
        copy(&repository().join(name), &place.join(name))?;
    }
    fs::copy(repository().join("Makefile"), place.join("Makefile"))?;

    // Roles belong to the server, so a guide that makes some gets one.
    let server = tokio::task::spawn_blocking(|| Postgres::start(postgres::Options::default())).await??;
    let database = Arc::new(server).create_database().await?;
    let pipeline = Account::new().await?.pipeline(Options::default()).await?;
    pipeline.purge().await?;

    let mut session = String::from("set -eu\n");
    for block in blocks {
        session.push_str(&format!("echo 'the block at line {}' >&3\n{}", block.line, block.commands));
    }
    let session = scratch.write("session", session)?;
    let (reached, output) = (scratch.path().join("reached"), scratch.path().join("output"));
    let programs = process::binary("importer")?;
    let paths = [programs.parent().context("a directory")?.to_path_buf(), postgres::installed()?];
    let inherited = std::env::var_os("PATH").unwrap_or_default();

    let mut shell = spawn::tied("sh", "KILL", None)?;
    shell.args(["-c", "exec sh \"$1\" 3>\"$2\"", "guide"]).arg(&session).arg(&reached);
    shell.env_clear().env("PATH", std::env::join_paths(paths.into_iter().chain(std::env::split_paths(&inherited)))?);
    for name in ["HOME", "LANG", "TMPDIR"] {
        shell.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    shell.envs(pipeline.account.variables());
    shell.env("DATABASE_URL", database.url()).env("QUEUE_URL", &pipeline.queue_url).env("BUCKET", &pipeline.bucket);
    let log = fs::File::create(&output)?;
    shell.current_dir(&place).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);

    let mut child = spawn::spawn(shell)?;
    let ended =
        wait::until("the guide to end", limit, || std::future::ready(child.try_wait().map_err(Into::into))).await;
    // What the guide left running, or hung in, is of the shell's group.
    let group = format!("kill -s KILL -- -{} 2>/dev/null", child.id());
    std::process::Command::new("sh").args(["-c", &group]).status()?;
    child.wait()?;
    let reached = fs::read_to_string(&reached).unwrap_or_default();
    let last = reached.lines().last().unwrap_or("no block").to_owned();
    let told = || format!("{last}:\n{}", fs::read_to_string(&output).unwrap_or_default());
    let status = ended.with_context(told)?;
    ensure!(status.success(), "{status}, {}", told());
    Ok(())
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
