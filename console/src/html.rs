//! What pages are made of. Whatever producers write is escaped, cut, and kept from changing the direction of what stands
//! around it.

use crate::read::kept::Seen;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use service::terminal;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

/// The one style sheet.
pub const STYLE: &str = include_str!("assets/console.css");
/// The one script.
pub const SCRIPT: &str = include_str!("assets/console.js");

/// The longest text that is shown of what others wrote; a key has at most 1,024 characters.
const MOST_CHARS: usize = 1100;

/// A longer text may break anywhere.
const MOST_UNBROKEN: usize = 40;

/// Changes with the assets, so that browsers may keep them.
static EDITION: LazyLock<String> = LazyLock::new(|| {
    let digest = Sha256::new().chain_update(STYLE).chain_update(SCRIPT).finalize();
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
});

/// The pages that the menu names; the last only where there are reports.
const MENU: [(&str, &str); 5] =
    [("/", "Now"), ("/objects", "Objects"), ("/rejects", "Rejects"), ("/due", "Due"), ("/reports", "Reports")];

/// A page.
pub struct Page {
    /// Its path, of the menu's where it is one of them.
    pub path: &'static str,
    /// What the browser's tab says.
    pub title: String,
    /// Where its fragments are sent from, if they change by themselves.
    pub stream: Option<String>,
    /// Where the same is as JSON.
    pub json: String,
    /// What it shows.
    pub body: Markup,
}

impl Page {
    /// Returns it as HTML, with reports in its menu or without.
    #[must_use]
    pub fn html(&self, has_reports: bool) -> Markup {
        let edition = EDITION.as_str();
        let menu = &MENU[..MENU.len() - usize::from(!has_reports)];
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (cut(&self.title)) " – Penstock" }
                    link rel="stylesheet" href=(format!("/assets/console.css?{edition}"));
                    link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                    script src=(format!("/assets/console.js?{edition}")) defer {}
                    @if self.stream.is_some() { noscript { meta http-equiv="refresh" content="30"; } }
                }
                body data-stream=[self.stream.as_deref()] {
                    a .skip href="#main" { "Skip to the content" }
                    header {
                        a .brand href="/" { "Penstock" }
                        nav aria-label="Pages" {
                            ul {
                                @for (path, name) in menu {
                                    li { a href=(path) aria-current=[(*path == self.path).then_some("page")] { (name) } }
                                }
                            }
                        }
                    }
                    main id="main" { (self.body) }
                    footer {
                        span { "As of " (time(Utc::now())) }
                        span id="live" {}
                        a href=(&self.json) { "JSON" }
                        span { "console " (crate::cli::VERSION) }
                    }
                }
            }
        }
    }
}

/// Returns a text that others wrote.
#[must_use]
pub fn text(text: &str) -> Markup {
    let is_long = text.len() > MOST_UNBROKEN;
    html! { bdi .long[is_long] { (cut(text)) } }
}

/// Returns a sentence of ours, in which backticks enclose what is typed or configured.
#[must_use]
pub fn prose(sentence: &str) -> Markup {
    html! {
        @for (place, part) in sentence.split('`').enumerate() {
            @if place % 2 == 1 { code .word { (part) } } @else { (part) }
        }
    }
}

/// Returns a key, which may break anywhere.
#[must_use]
pub fn key(text: &str) -> Markup {
    html! { bdi .key { (cut(text)) } }
}

/// Returns the start of a text with escapes for what does not show, and its length where that is not all.
#[must_use]
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARS) {
        None => terminal::escaped(text).into_owned(),
        Some((end, _)) => format!("{}… ({} characters)", terminal::escaped(&text[..end]), text.chars().count()),
    }
}

/// Returns a time; the script puts the reader's own beside it.
#[must_use]
pub fn time(at: DateTime<Utc>) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    // Of half a day the time is enough, also shortly after midnight.
    let is_near = (Utc::now() - at).abs() < TimeDelta::hours(12);
    let format = if is_near { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M:%S UTC" };
    html! { time datetime=(exact) { (at.format(format)) } }
}

/// Returns how long ago a time was, with the time itself.
#[must_use]
pub fn ago(at: DateTime<Utc>) -> Markup {
    let age = (Utc::now() - at).as_seconds_f64().max(0.0).floor();
    html! { span .ago { @if age < 1.0 { "0s" } @else { (secs(age)) } " ago" } " " (time(at)) }
}

/// Returns what a part says but for how long ago things were, which the script says as time goes by.
#[must_use]
pub fn without_ages(html: &str) -> String {
    let mut parts = html.split("<span class=\"ago\">");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once("</span>").map_or(part, |(_, rest)| rest))
}

/// Returns a duration, as long ones are said, too.
#[must_use]
pub fn secs(secs: f64) -> String {
    if secs >= 2.0 * 86_400.0 { format!("{:.0} days", secs / 86_400.0) } else { service::words::secs(secs) }
}

/// Returns a duration that may be unknown.
#[must_use]
pub fn secs_or(value: Option<f64>, unknown: &str) -> String {
    value.map_or_else(|| unknown.to_owned(), secs)
}

/// Returns a number with its thousands apart.
#[must_use]
pub fn number(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::from(if n < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number that may be unknown.
#[must_use]
pub fn number_or(n: Option<u64>, unknown: &str) -> String {
    n.map_or_else(|| unknown.to_owned(), |n| number(i64::try_from(n).unwrap_or(i64::MAX)))
}

/// Returns a command, ready to be copied. A line ends between its words; a long word, such as a key, may break anywhere.
#[must_use]
pub fn command(command: &str) -> Markup {
    // A line is broken between its words, and never behind their hyphens.
    let words = command.split(' ').enumerate();
    html! {
        div .command {
            code { @for (place, word) in words { @if place > 0 { " " } span { (word) } } }
            button type="button" data-copy hidden { "Copy" }
        }
    }
}

/// Returns a part of a page that is read by itself: when it cannot be read it says so, and shows what was seen last.
#[must_use]
pub fn panel<T>(seen: &Seen<T>, show: impl FnOnce(&T) -> Markup) -> Markup {
    html! {
        @if let Some(failure) = &seen.failure {
            p .trouble role="alert" {
                (prose(&cut(&failure.to_string()))) ". "
                @match seen.at {
                    Some(at) => { "Last seen " (ago(at)) "; it is tried again." }
                    None => "It is tried again.",
                }
            }
        }
        @if let Some(value) = &seen.value { (show(value)) }
    }
}

/// Returns markup that another part of the program wrote, as a chart.
#[must_use]
pub fn drawn(svg: String) -> Markup {
    PreEscaped(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_escaped_cut_and_kept_apart() {
        let shown = key("<script>\u{202e}&\"'").into_string();
        assert_eq!(shown, "<bdi class=\"key\">&lt;script&gt;\\u{202e}&amp;&quot;'</bdi>");
        assert!(text(&"x".repeat(5000)).into_string().ends_with("x… (5000 characters)</bdi>"));
    }

    #[test]
    fn the_words_of_a_command_stay_whole_and_its_text_stays_the_same() {
        let shown = command("scaler history --since 1h  s3://landing/orders/2026/01/31/a.csv").into_string();
        assert!(shown.contains("<span>--since</span> ") && shown.contains("<span>s3://landing/"), "{shown}");
        let code = shown.split("<code>").nth(1).and_then(|rest| rest.split("</code>").next()).unwrap_or_default();
        let text = code.replace("<span>", "").replace("</span>", "");
        assert_eq!(text, "scaler history --since 1h  s3://landing/orders/2026/01/31/a.csv");
    }

    #[test]
    fn ages_are_no_news() {
        let at = |secs| html! { p { (ago(Utc::now() - chrono::Duration::seconds(secs))) } }.into_string();
        let shown = at(5);
        assert!(shown.contains("5s ago") && !without_ages(&shown).contains("5s ago"), "{shown}");
        assert!(without_ages(&shown).ends_with("</time></p>"), "{shown}");
    }

    #[test]
    fn numbers_and_durations_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567, -1000].map(number), ["0", "999", "1,000", "1,234,567", "-1,000"]);
        assert_eq!([12.0, 3600.0, 259_200.0].map(secs), ["12s", "1h", "3 days"]);
    }
}
