//! A browser without a screen: Debian's Chromium, told what to do by its driver (WebDriver, and the DevTools protocol
//! where that lacks something).

use crate::{http, repository, scratch::Scratch, spawn, wait};
use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

/// How long the driver may take to start, and the browser to end.
const LIMIT: Duration = Duration::from_secs(30);

/// What Chromium is started with. Nothing here needs what the sandbox guards, and in a container it has no rights for it.
const ARGUMENTS: [&str; 5] =
    ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The window's width in pixels of style sheets.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// How many of the screen's pixels are one of them.
    pub scale: f64,
    /// Whether the reader prefers light on dark.
    pub is_dark: bool,
}

impl View {
    /// A desktop, light.
    pub const DESKTOP: Self = Self { width: 1280, height: 900, scale: 1.0, is_dark: false };
    /// A telephone, dark.
    pub const TELEPHONE: Self = Self { width: 390, height: 844, scale: 1.0, is_dark: true };
}

/// A running browser with one window; it ends with its handle, or with this process.
#[derive(Debug)]
pub struct Browser {
    session: String,
    driver: Child,
    profile: Scratch,
}

impl Browser {
    /// Starts one with an empty profile, and these preferences in it.
    ///
    /// # Errors
    /// When Chromium or its driver is not installed, or does not start.
    pub async fn start(preferences: &Value) -> Result<Self> {
        let chromium = installed("chromium", "chromium")?;
        let driver = installed("chromedriver", "chromium-driver")?;
        let profile = Scratch::new("browser")?;
        // The driver starts the browser, which ends with it this way.
        let tied = spawn::tied(&chromium, "KILL", None)?;
        let words = std::iter::once(tied.get_program()).chain(tied.get_args()).map(|word| word.to_string_lossy());
        let script = format!("#!/bin/sh\nexec {} \"$@\"\n", words.collect::<Vec<_>>().join(" "));
        let binary = profile.write("chromium", script)?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o700))?;

        let port = spawn::free_port()?;
        let log = profile.path().join("driver.log");
        let mut command = spawn::tied(driver, "KILL", None)?;
        command.arg(format!("--port={port}")).env("HOME", profile.path()).env("TMPDIR", profile.path());
        let output = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let driver = spawn::spawn(command).context("start chromedriver")?;
        let mut browser = Self { session: format!("http://127.0.0.1:{port}"), driver, profile };
        browser.begin(&binary, preferences).await.with_context(|| spawn::tail(&log))?;
        Ok(browser)
    }

    async fn begin(&mut self, binary: &PathBuf, preferences: &Value) -> Result<()> {
        wait::until("the driver to answer", LIMIT, || async {
            Ok(self.ask("GET", "/status", &Value::Null).await.ok())
        })
        .await?;
        let data = format!("--user-data-dir={}", self.profile.path().join("data").display());
        let arguments: Vec<&str> = ARGUMENTS.into_iter().chain([data.as_str()]).collect();
        let options = json!({ "binary": binary, "args": arguments, "prefs": preferences });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let wanted = json!({ "capabilities": { "alwaysMatch": wanted } });
        let begun = self.ask("POST", "/session", &wanted).await?;
        let id = begun["sessionId"].as_str().context("the driver names no session")?;
        self.session = format!("{}/session/{id}", self.session);
        Ok(())
    }

    /// Returns what every process of it has in its command line.
    #[must_use]
    pub fn mark(&self) -> String {
        self.profile.path().display().to_string()
    }

    /// Opens a page and returns when it is loaded.
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.ask("POST", "/url", &json!({ "url": url })).await?;
        Ok(())
    }

    /// Runs the body of a function in the page and returns what it returns, after a promise what that becomes.
    ///
    /// # Errors
    /// With what was thrown.
    pub async fn run(&self, body: &str) -> Result<Value> {
        self.ask("POST", "/execute/sync", &json!({ "script": body, "args": [] })).await
    }

    /// Waits until the function returns what is true in JavaScript; returns that.
    ///
    /// # Errors
    /// When it does not within the limit.
    pub async fn until(&self, what: &str, body: &str) -> Result<Value> {
        let is_true = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0;
        let found = wait::until(what, LIMIT, || async { Ok(Some(self.run(body).await?).filter(is_true)) }).await;
        match found {
            Ok(value) => Ok(value),
            Err(error) => Err(error.context(self.run("return document.body.innerText").await?.to_string())),
        }
    }

    /// Presses keys one after the other, named by their characters, as `\u{e004}` for Tab.
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn press(&self, keys: &str) -> Result<()> {
        let strokes =
            keys.chars().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })));
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>() }]);
        self.ask("POST", "/actions", &json!({ "actions": actions })).await?;
        Ok(())
    }

    /// Clicks on the first element that a selector finds.
    ///
    /// # Errors
    /// When there is none, or something lies over it.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let found = self.ask("POST", "/element", &json!({ "using": "css selector", "value": selector })).await?;
        let id = found.as_object().and_then(|element| element.values().next()?.as_str()).context("no element")?;
        self.ask("POST", &format!("/element/{id}/click"), &json!({})).await?;
        Ok(())
    }

    /// Looks at the page in another way.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn look(&self, View { width, height, scale, is_dark }: View) -> Result<()> {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await?;
        // As on a telephone: they lie over the page and take nothing of it.
        self.tell("Emulation.setScrollbarsHidden", json!({ "hidden": true })).await?;
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.tell("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// Returns what is seen now, as a PNG.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn picture(&self) -> Result<Vec<u8>> {
        let taken = self.tell("Page.captureScreenshot", json!({ "optimizeForSpeed": false })).await?;
        Ok(BASE64_STANDARD.decode(taken["data"].as_str().context("no picture")?)?)
    }

    /// Returns what the browser complained of since this was asked last: scripts that failed, and what a policy forbids.
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let entries = self.ask("POST", "/se/log", &json!({ "type": "browser" })).await?;
        let entries = entries.as_array().into_iter().flatten();
        // Of what is answered with an error the console's other tests know more.
        let bad = entries.filter(|entry| entry["level"] == "SEVERE" && entry["source"] != "network");
        Ok(bad.map(|entry| entry["message"].to_string()).collect())
    }

    /// Tells the browser something in its DevTools protocol.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn tell(&self, what: &str, parameters: Value) -> Result<Value> {
        self.ask("POST", "/goog/cdp/execute", &json!({ "cmd": what, "params": parameters })).await
    }

    /// Sends a command of WebDriver (<https://www.w3.org/TR/webdriver2/>).
    ///
    /// # Errors
    /// With what the driver says.
    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = http::request(method, &format!("{}{path}", self.session), &[], &body).await?;
        let mut said: Value = serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?;
        let value = said["value"].take();
        ensure!(answer.status == 200, "{path}: {}: {}", value["error"], value["message"]);
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // The browser's processes end one after the other, and write into the profile until then.
        let _ =
            wait::until_blocking("the browser to end", LIMIT, || Ok(processes(&self.mark()).is_empty().then_some(())));
    }
}

/// Returns the processes whose command line contains a text.
#[must_use]
pub fn processes(text: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    };
    pids.filter(has).collect()
}

/// Returns the script that finds what keeps people from reading a page (axe-core), as `prepare.sh` fetched it.
///
/// # Errors
/// When it is not there.
pub fn axe() -> Result<String> {
    let place = repository().join(".cache/axe-core/package/axe.min.js");
    fs::read_to_string(&place)
        .with_context(|| format!("{} is missing (npm package axe-core); `make test` fetches it", place.display()))
}

fn installed(program: &str, package: &str) -> Result<PathBuf> {
    spawn::find_in_path(program)
        .with_context(|| format!("{program} is not installed (Debian package {package}); `make test` installs it"))
}
