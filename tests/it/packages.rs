//! What is handed out: packages with the units, the image for two kinds of machine, and the workflow that publishes both.

use crate::units;
use anyhow::{Context as _, Result, ensure};
use penstock_tests::{repository, scratch::Scratch, spawn};
use serde_norway::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

const PROGRAMS: [&str; 3] = ["importer", "scaler", "console"];

/// Lays out what packages hold, with stand-ins for the program and for the makers of packages.
#[test]
fn what_is_laid_out_is_what_packages_hold_and_units_start_it() -> Result<()> {
    let scratch = Scratch::new("packages")?;
    let dist = scratch.path().join("dist");
    for directory in ["bin", "man/man1", "completions"] {
        fs::create_dir_all(dist.join(directory))?;
    }
    fs::write(dist.join("bin/penstock"), "the program")?;
    for program in PROGRAMS {
        symlink("penstock", dist.join("bin").join(program))?;
        fs::write(dist.join(format!("man/man1/{program}.1")), "page")?;
        for completion in [format!("{program}.bash"), format!("_{program}"), format!("{program}.fish")] {
            fs::write(dist.join("completions").join(completion), "words")?;
        }
    }
    let cargo = scratch.write("cargo", "#!/bin/sh\necho \"$@\"\n")?;
    fs::set_permissions(cargo, fs::Permissions::from_mode(0o755))?;
    let path = format!("{}:{}", scratch.path().display(), std::env::var("PATH")?);
    let mut stage = Command::new(repository().join("infra/package/stage.sh"));
    stage.arg(&dist).arg(scratch.path().join("out")).arg("aarch64-unknown-linux-gnu");
    stage.env("PATH", path).env("MAINTAINER", "Ann <ann@example.org>").env("SOURCE_DATE_EPOCH", "0");
    let said = spawn::run(&mut stage)?;
    let lines: Vec<&str> = said.lines().collect();
    let [deb, rpm] = lines[..] else { panic!("{said}") };
    assert!(deb.starts_with("deb ") && rpm.starts_with("generate-rpm "), "{said}");
    assert!(lines.iter().all(|line| line.contains("--target aarch64-unknown-linux-gnu")), "{said}");
    assert!(deb.contains("--maintainer Ann <ann@example.org> "), "{said}");

    let staged = repository().join("target/package");
    assert_eq!(fs::read_to_string(staged.join("penstock"))?, "the program");
    let changelog = fs::read_to_string(staged.join("changelog"))?;
    let first = format!("penstock ({}-1) unstable; urgency=medium\n\n  * ", env!("CARGO_PKG_VERSION"));
    let last = "\n\n -- Ann <ann@example.org>  Thu, 01 Jan 1970 00:00:00 +0000\n";
    assert!(changelog.starts_with(&first) && changelog.ends_with(last), "{changelog}");
    for program in PROGRAMS {
        let wrapper = fs::read_to_string(staged.join("bin").join(program))?;
        assert_eq!(wrapper, format!("#!/bin/sh\nexec /usr/bin/penstock {program} \"$@\"\n"));
        let unit = format!("penstock-{program}.service");
        let text = fs::read_to_string(staged.join("units").join(&unit))?;
        assert!(text.contains(&format!("\nExecStart=/usr/bin/{program} ")) && !text.contains("/usr/local"), "{text}");
        // Systemd accepts it where its program is.
        units::check(&unit, &text.replace("=/usr/bin/", "=/usr/local/bin/"))?;
    }
    // Each asset is there, and each file that was laid out is in a package.
    let files = files(&staged)?;
    for (kind, assets) in [("deb", deb_assets()?), ("rpm", rpm_assets()?)] {
        let mut packed = BTreeSet::new();
        for (source, target) in &assets {
            let pattern = repository().join("penstock").join(source).display().to_string();
            let found: Vec<_> = glob::glob(&pattern)?.collect::<Result<_, _>>()?;
            ensure!(!found.is_empty(), "{kind}: there is no {source}");
            ensure!(found.len() == 1 || target.ends_with('/'), "{kind}: {target}");
            packed.extend(found.into_iter().map(|path| path.canonicalize()).collect::<Result<Vec<_>, _>>()?);
        }
        // Debian's changelog is a setting.
        for file in files.iter().filter(|file| !file.ends_with("changelog")) {
            ensure!(packed.contains(&file.canonicalize()?), "{kind} lacks {}", file.display());
        }
    }
    Ok(())
}

#[test]
fn both_kinds_of_package_put_the_same_files_into_the_same_places() -> Result<()> {
    let common = |assets: BTreeMap<String, String>| -> BTreeMap<String, String> {
        let places = assets.into_iter().map(|(source, target)| {
            let target = target.trim_start_matches('/').to_owned();
            (source, target.replace("zsh/site-functions", "zsh/vendor-completions"))
        });
        // Each kind has customs of its own for licences and changes.
        places.filter(|(source, _)| !source.ends_with("LICENSE") && !source.ends_with("CHANGELOG.md")).collect()
    };
    assert_eq!(common(deb_assets()?), common(rpm_assets()?));
    Ok(())
}

#[test]
fn the_packages_scripts_are_scripts_and_start_nothing() -> Result<()> {
    let mut n_scripts = 0;
    for directory in ["infra/package/debian", "infra/package/rpm"] {
        for entry in fs::read_dir(repository().join(directory))? {
            let path = entry?.path();
            spawn::run(Command::new("sh").arg("-n").arg(&path))?;
            let text = fs::read_to_string(&path)?;
            for line in text.lines().filter(|line| !line.starts_with('#') && line.contains("systemctl")) {
                // A release starts after the schema's migrations, which are the owner's.
                let allowed = line.contains("daemon-reload") || line.contains("disable --now");
                assert!(allowed, "{}: {line}", path.display());
            }
            n_scripts += 1;
        }
    }
    assert_eq!(n_scripts, 6);
    Ok(())
}

/// Under emulation the build of the image takes hours, or more memory than there is.
#[test]
fn the_image_for_another_kind_of_machine_is_built_without_emulating_it() -> Result<()> {
    let dockerfile = fs::read_to_string(repository().join("Dockerfile"))?;
    let stages: Vec<&str> = dockerfile.split("\nFROM ").skip(1).collect();
    let [build, image] = stages[..] else { panic!("two stages: {dockerfile}") };
    assert!(build.starts_with("--platform=$BUILDPLATFORM "), "it builds on the machine there is");
    assert!(build.contains("--target \"$(cat /target)\""), "{build}");
    for machine in ["aarch64", "x86_64"] {
        let linker =
            format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_LINKER={machine}-linux-gnu-gcc", machine.to_uppercase());
        assert!(build.contains(&linker), "{linker}");
    }
    // What runs in the last stage would run on the machine the image is for.
    assert!(!image.contains("\nRUN "), "{image}");
    Ok(())
}

#[test]
fn the_release_workflow_does_what_the_repository_can() -> Result<()> {
    let text = fs::read_to_string(repository().join(".github/workflows/release.yml"))?;
    let workflow: Value = serde_norway::from_str(&text)?;
    let jobs = &workflow["jobs"];
    let needs: BTreeSet<&str> =
        jobs["publish"]["needs"].as_sequence().context("needs")?.iter().filter_map(Value::as_str).collect();
    assert_eq!(needs, ["build", "test"].into(), "nothing is published that was not tested");
    assert_eq!(jobs["publish"]["if"], "github.ref_type == 'tag'");
    let makefile = fs::read_to_string(repository().join("Makefile"))?;
    let mut n_made = 0;
    let mut commands = String::new();
    for job in ["test", "build", "publish"] {
        for step in jobs[job]["steps"].as_sequence().context("steps")? {
            let Some(run) = step["run"].as_str() else {
                ensure!(step["uses"].is_string(), "{job}: a step that does nothing: {step:?}");
                continue;
            };
            let scratch = Scratch::new("release")?;
            spawn::run(Command::new("bash").arg("-n").arg(scratch.write("run", run)?))?;
            for line in run.lines() {
                if let Some(made) = line.trim().strip_prefix("make ") {
                    let target = made.split(' ').next().unwrap_or_default();
                    assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
                    n_made += 1;
                }
                // A token on a command line is in the list of processes.
                assert!(!line.contains("secrets."), "{line}");
            }
            commands += run;
        }
    }
    assert_eq!(n_made, 4);
    for wanted in [
        ".ci/run",
        "--platform linux/amd64,linux/arm64",
        "helm package infra/helm/penstock",
        "sha256sum",
        "native=dist-amd64/bin",
    ] {
        assert!(commands.contains(wanted), "{wanted}");
    }
    Ok(())
}

fn manifest() -> Result<toml::Value> {
    Ok(toml::from_str(&fs::read_to_string(repository().join("penstock/Cargo.toml"))?)?)
}

/// Returns what a .deb holds: sources and where they go.
fn deb_assets() -> Result<BTreeMap<String, String>> {
    let manifest = manifest()?;
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().context("assets")?;
    let words = |asset: &toml::Value| {
        let text = |at: usize| asset.get(at).and_then(toml::Value::as_str).map(str::to_owned);
        Some((text(0)?, text(1)?))
    };
    assets.iter().map(|asset| words(asset).context("source, target, mode")).collect()
}

fn rpm_assets() -> Result<BTreeMap<String, String>> {
    let manifest = manifest()?;
    let assets = manifest["package"]["metadata"]["generate-rpm"]["assets"].as_array().context("assets")?;
    let words = |asset: &toml::Value| {
        let text = |name: &str| asset.get(name).and_then(toml::Value::as_str).map(str::to_owned);
        Some((text("source")?, text("dest")?))
    };
    assets.iter().map(|asset| words(asset).context("source, dest, mode")).collect()
}

fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
