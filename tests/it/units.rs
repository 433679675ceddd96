//! `infra/systemd/`: systemd itself accepts the units, and finds them well locked in.

use anyhow::{Context as _, Result, ensure};
use penstock_tests::{process, repository, scratch::Scratch, spawn, tools};
use std::{fs, process::Command};

const UNITS: [&str; 3] = ["penstock-importer.service", "penstock-scaler.service", "penstock-console.service"];

/// Ten times the exposure `systemd-analyze security` may find, of 100. A unit without any of its directives has 96.
const MOST_EXPOSURE: u32 = 20;

#[test]
fn systemd_accepts_the_units_and_finds_little_exposed() -> Result<()> {
    for unit in UNITS {
        check(unit, &read(unit)?)?;
    }
    Ok(())
}

#[test]
fn a_slip_in_a_unit_would_be_found() -> Result<()> {
    for (slip, from, to) in [
        ("Unknown key", "MemoryMax=", "MemoryMost="),
        ("Failed to parse", "TimeoutStopSec=130s", "TimeoutStopSec=two minutes"),
        ("is not executable", "/importer run", "/importers run"),
        ("exposure", "CapabilityBoundingSet=\n", ""),
    ] {
        let unit = read(UNITS[0])?;
        assert!(unit.contains(from), "{from}");
        let said = check(UNITS[0], &unit.replace(from, to)).expect_err(slip);
        assert!(format!("{said:#}").contains(slip), "{slip}: {said:#}");
    }
    Ok(())
}

#[test]
fn the_units_start_the_programs_as_they_understand_it_and_stop_them_no_sooner_than_they_drain() -> Result<()> {
    let drain_secs = importer::config::Config::parse("", "importer.toml", |_| None)?.worker.drain_timeout_secs;
    for (unit, least_secs) in [(UNITS[0], u64::from(drain_secs)), (UNITS[1], 150), (UNITS[2], 5)] {
        let text = read(unit)?;
        let command = value(&text, "ExecStart").context("ExecStart")?;
        let mut words = command.split_whitespace();
        let program = words.next().and_then(|path| path.strip_prefix("/usr/local/bin/")).context("the program")?;
        let understood = Command::new(process::binary(program)?).args(words).arg("--help").output()?;
        assert!(understood.status.success(), "{unit}: {command}");
        let stop = value(&text, "TimeoutStopSec").and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok());
        assert!(stop.context("TimeoutStopSec in seconds")? > least_secs, "{unit}: {stop:?} is not above {least_secs}");
        // A clean drain is not to be started again, and a wrong configuration neither.
        assert_eq!(value(&text, "Restart"), Some("on-failure"), "{unit}");
        assert_eq!(value(&text, "RestartPreventExitStatus"), Some("2"), "{unit}");
    }
    Ok(())
}

/// Runs systemd's own checks on a unit whose program is the built one.
pub fn check(name: &str, text: &str) -> Result<()> {
    let analyze = tools::systemd_analyze()?;
    let binary = process::binary("importer")?;
    let programs = binary.parent().context("a directory")?;
    let scratch = Scratch::new("units")?;
    let file = scratch.write(name, text.replace("/usr/local/bin/", &format!("{}/", programs.display())))?;
    let verified = Command::new(&analyze).args(["verify", "--man=no"]).arg(&file).output()?;
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // Other units of this machine are none of ours.
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
    ensure!(about_ours.is_empty(), "{}", about_ours.join("\n"));
    ensure!(verified.status.success(), "systemd-analyze verify ended with {}:\n{said}", verified.status);
    let threshold = format!("--threshold={MOST_EXPOSURE}");
    spawn::run(Command::new(&analyze).args(["security", "--offline=yes", "--no-pager", &threshold]).arg(&file))
        .context("too much exposure")?;
    Ok(())
}

fn read(unit: &str) -> Result<String> {
    fs::read_to_string(repository().join("infra/systemd").join(unit)).with_context(|| unit.to_owned())
}

/// Returns a directive's value.
fn value<'a>(unit: &'a str, name: &str) -> Option<&'a str> {
    unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}
