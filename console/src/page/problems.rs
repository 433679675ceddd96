//! What is broken: a list of problems, each with what to type.

use super::{encoded, title};
use crate::{
    html::{ago, command, key, number, panel, prose, text, time},
    read::{
        kept::Seen,
        now::{Kind, Problem},
    },
    shell,
};
use maud::{Markup, html};

/// Returns the part of the page.
pub fn broken(seen: &Seen<Vec<Problem>>) -> Markup {
    html! {
        (title("broken", "What is broken?"))
        (panel(seen, |problems| list(problems)))
    }
}

/// Returns a list of problems.
pub fn list(problems: &[Problem]) -> Markup {
    html! {
        @if problems.is_empty() {
            p .answer { "Nothing." }
        } @else {
            ol .problems { @for problem in problems { li { (one(problem)) } } }
        }
    }
}

fn one(problem: &Problem) -> Markup {
    let (count, what) = words(problem);
    html! {
        article {
            h3 {
                @if let Some(count) = count { span .count { (count) } " " }
                (what)
                @if let Some(of) = &problem.of { " " (whose(problem.kind, of)) }
                @if let Some(reason) = &problem.reason { " " span .word { (text(reason)) } }
                @if let Some(column) = &problem.column { " in column " span .word { (text(column)) } }
            }
            p .when {
                @if let Some(since) = problem.since { "Since " (time(since)) }
                @if let Some(latest) = problem.latest.filter(|latest| Some(*latest) != problem.since) {
                    @if problem.since.is_some() { ", last " } @else { "Last " }
                    (ago(latest))
                }
            }
            @if let Some(said) = &problem.said { p .said { (text(said)) } }
            @if let Some(sample) = &problem.sample {
                p .sample {
                    "For one: "
                    a href=(format!("/objects/{}", sample.object_id)) {
                        (key(&shell::address(&sample.bucket, &sample.key)))
                    }
                }
            }
            p .advice { (prose(&problem.advice)) }
            @if let Some(line) = &problem.command { (command(line)) }
        }
    }
}

/// Returns whose problem it is, with the way to its page.
fn whose(kind: Kind, of: &str) -> Markup {
    let page = match kind {
        Kind::Failed | Kind::Held | Kind::Slow | Kind::Rejected => format!("/datasets/{}", encoded(of)),
        Kind::NoScaler | Kind::QueueUnreadable | Kind::AtMax | Kind::Late | Kind::PoolStuck => {
            format!("/pools/{}", encoded(of))
        }
        Kind::Unsent => "/due".to_owned(),
        Kind::NoDatabase | Kind::Locked | Kind::WorkersSilent => return text(of),
    };
    html! { a href=(page) { (text(of)) } }
}

/// Returns how many there are, where that says something, and what they are.
fn words(problem: &Problem) -> (Option<String>, &'static str) {
    let count = format!("{}{}", number(problem.n), if problem.more { "+" } else { "" });
    let one_or = |one, many| if problem.n == 1 && !problem.more { one } else { many };
    match problem.kind {
        Kind::NoDatabase => (None, "Postgres cannot be reached"),
        Kind::Locked => (Some(count), one_or("session waits for a lock", "sessions wait for a lock")),
        Kind::NoScaler => (None, "No scaler decides for pool"),
        Kind::QueueUnreadable => (None, "A queue cannot be counted, of pool"),
        Kind::AtMax => (None, "Late, and at its maximum: pool"),
        Kind::Late => (None, "Late: pool"),
        Kind::PoolStuck => (None, "Held back: pool"),
        Kind::WorkersSilent => (Some(count), one_or("worker is silent", "workers are silent")),
        Kind::Failed => (Some(count), one_or("object failed", "objects failed")),
        Kind::Held => (Some(count), one_or("object is tried again", "objects are tried again")),
        Kind::Slow => (Some(count), one_or("object takes long", "objects take long")),
        Kind::Rejected => (Some(count), one_or("row rejected", "rows rejected")),
        Kind::Unsent => (Some(count), one_or("message cannot be sent to", "messages cannot be sent to")),
    }
}
