//! What others name reaches a person's terminal escaped: keys, fields and what is said of them.

use crate::desk::Desk;
use anyhow::Result;
use service::terminal;

/// A name that clears the screen, turns the text around it and forges a line.
const HOSTILE: &str = "k\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\nforged";

#[tokio::test(flavor = "multi_thread")]
async fn no_command_and_no_log_line_sends_a_terminal_what_it_acts_on() -> Result<()> {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text)";
    let desk = Desk::new(tables, "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 1").await?;
    let field = HOSTILE.replace('\n', "");
    let rejected = desk.write(&format!("{HOSTILE}-1.csv"), format!("id,v,{field}\n1,a,b\n{field},b,c\n"))?;
    let failed = desk.write(&format!("{HOSTILE}-2.csv"), format!("{field},{field}\n1,a\n"))?;
    let json = desk.write(&format!("{HOSTILE}.json"), format!("{{\"id\":1,\"{field}\":2}}"))?;
    let mut said = String::new();
    for arguments in [
        &["load", "--dry-run", &rejected, &failed][..],
        &["load", &rejected, &failed],
        &["load", "--log-format", "json", &failed],
        &["load", "--dataset", HOSTILE, &failed],
        &["load", &format!("{failed}.nothing")],
        &["status"],
        &["status", "--dataset", "d"],
        &["status", "--json"],
        &["status", &format!("s3://bucket/{HOSTILE}")],
        &["rejects"],
        &["rejects", "--json"],
        &["rejects", "--replay"],
        &["describe", &json],
        &["describe", &format!("{json}.nothing")],
    ] {
        let ended = desk.run(arguments).await?;
        for line in ended.stdout.lines().chain(ended.stderr.lines()) {
            assert!(!line.contains(terminal::is_hidden), "{arguments:?}: {line:?}");
            assert!(!line.starts_with("forged"), "{arguments:?}: {line:?}");
            if arguments.contains(&"--json") {
                let row: serde_json::Value = serde_json::from_str(line)?;
                assert!(row["key"].as_str().is_some_and(|key| key.contains(HOSTILE)), "{line}");
            }
        }
        said.push_str(&ended.stdout);
        said.push_str(&ended.stderr);
    }
    assert!(said.contains("\\u{1b}[2J\\u{9b}31m\\u{202e}") && said.contains("\\u202e"), "{said}");
    Ok(())
}
