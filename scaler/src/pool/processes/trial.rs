//! One worker is asked what it is and whether it can read its configuration, before the first is needed.

use super::{Settings, resolve};
use crate::pool::Remark;
use service::words::chain;
use std::{process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

/// How long each answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Starts the pool's program as a worker is started, and has it say its version; an importer reads its configuration too.
pub async fn ask(settings: &Settings) -> Vec<Remark> {
    let version = match say(settings, &["--version"]).await {
        Ok(Said { success: true, output, .. }) => output,
        Ok(said) => {
            let what = format!("asked for its version the program ended with {}", said.status);
            return vec![Remark::doubt(what, "run it by hand with `--version`, as the user the scaler runs as")];
        }
        Err(why) => {
            return vec![Remark::wrong(
                why,
                "see that the user the scaler runs as may start it, and that this machine can",
            )];
        }
    };
    let mut remarks = vec![Remark::Fine(format!("the program is {version}"))];
    if let Some(arguments) = reading(&settings.command, &version) {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        remarks.push(match say(settings, &arguments).await {
            Ok(Said { success: true, output, .. }) => Remark::Fine(format!("it reads its {output}")),
            Ok(said) => {
                let what = format!("a worker would end at once: {}", said.error);
                Remark::wrong(what, "mend what it names, or `command` and `env` in [pool.workers]")
            }
            Err(why) => Remark::wrong(why, "run `importer check --offline` by hand"),
        });
    }
    remarks
}

/// Returns how an importer is asked to read the configuration it would run with; of another program nothing is known.
fn reading(command: &[String], version: &str) -> Option<Vec<String>> {
    if !version.starts_with("importer ") || command.get(1).is_none_or(|word| word != "run") {
        return None;
    }
    let mut asked = vec!["check".to_owned(), "--offline".to_owned()];
    let mut words = command[2..].iter();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        if ["--config", "--queue"].contains(&name) {
            asked.push(word.clone());
            if !word.contains('=') {
                asked.extend(words.next().cloned());
            }
        }
    }
    Some(asked)
}

struct Said {
    success: bool,
    status: String,
    /// The first line it printed.
    output: String,
    /// The last one of what it complained of.
    error: String,
}

async fn say(settings: &Settings, arguments: &[&str]) -> Result<Said, String> {
    let program = settings.command.first().map_or("", String::as_str);
    let mut command = Command::new(resolve(program));
    command.args(arguments).envs(&settings.env).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(directory) = &settings.directory {
        command.current_dir(directory);
    }
    let output = match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("{program} cannot be started: {}", chain(&error.into()))),
        Err(_) => return Err(format!("{program} did not answer within {} s", LIMIT.as_secs())),
    };
    let line = |bytes: &[u8], last: bool| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let line = if last { lines.next_back() } else { lines.next() };
        line.unwrap_or_default().to_owned()
    };
    Ok(Said {
        success: output.status.success(),
        status: output.status.to_string(),
        output: line(&output.stdout, false),
        error: line(&output.stderr, true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn only_what_names_the_configuration_is_passed_on() {
        let asked = |line: &str| reading(&words(line), "importer 1.0.0 (abc)").map(|words| words.join(" "));
        assert_eq!(asked("importer run").as_deref(), Some("check --offline"));
        let line = "/bin/importer run --until-empty --config a.toml --queue=b --concurrency 4 --log-format json";
        assert_eq!(asked(line).as_deref(), Some("check --offline --config a.toml --queue=b"));
        assert_eq!(asked("importer load x"), None);
        assert_eq!(reading(&words("sh run"), "dash 1"), None);
    }

    fn settings(command: &[&str]) -> Settings {
        Settings { command: command.iter().map(|word| (*word).to_owned()).collect(), ..Settings::default() }
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_is_wrong_and_one_without_a_version_is_doubted() {
        // A file that is no program, as one for another machine.
        let found = ask(&settings(&[concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "run"])).await;
        assert!(matches!(&found[..], [Remark::Wrong { what, .. }] if what.contains("cannot be started")), "{found:?}");
        let found = ask(&settings(&["false"])).await;
        assert!(matches!(&found[..], [Remark::Doubt { what, .. }] if what.contains("exit status: 1")), "{found:?}");
    }
}
