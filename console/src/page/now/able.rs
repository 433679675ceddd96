//! Whether the pools are able: how large they are, how large they should be, and what holds them.

use crate::{
    html::{ago, number_or, panel, secs_or, text},
    page::{encoded, pool::paused, title},
    read::{kept::Seen, now::PoolNow},
};
use maud::{Markup, html};

/// Returns the part of the page.
pub fn able(seen: &Seen<Vec<PoolNow>>) -> Markup {
    html! {
        (title("able", "Is the pool able?"))
        (panel(seen, |pools| html! {
            @if pools.is_empty() {
                p .quiet {
                    "No scaler has decided here within three days. Without one, set the number of importers by hand."
                }
            }
            @for pool in pools { (one(pool)) }
        }))
    }
}

fn one(pool: &PoolNow) -> Markup {
    let desired = pool.desired.map(|n| u64::from(n.unsigned_abs()));
    let others = [(pool.starting, "starting"), (pool.draining, "draining"), (pool.dead, "without a heartbeat")];
    let others = others.iter().filter_map(|(n, what)| n.filter(|n| *n > 0).map(|n| format!("{n} {what}")));
    let others = others.collect::<Vec<_>>().join(", ");
    html! {
        article .pool {
            h3 { a href=(format!("/pools/{}", encoded(&pool.pool))) { (text(&pool.pool)) } @if let Some(reason) = &pool.reason { " " span .word { (text(reason)) } } }
            dl .numbers {
                div { dt { "running" } dd { (number_or(pool.running, "?")) } }
                div { dt { "wanted" } dd { (number_or(desired, "?")) } }
                div { dt { "at most" } dd { (number_or(pool.max, "?")) } }
                div { dt { "messages waiting" } dd { (number_or(pool.visible, "?")) } }
                div { dt { "in hand" } dd { (number_or(pool.in_flight, "?")) } }
                div { dt { "oldest waits" } dd { (secs_or(pool.oldest_secs, "–")) } }
                div { dt { "promised" } dd { (secs_or(pool.promised_secs, "–")) } }
            }
            @if let Some(pause) = &pool.pause { (paused(&pool.pool, pause)) }
            @if !others.is_empty() { p { (others) } }
            @if let Some(explain) = &pool.explain { p { (text(explain)) } }
            @if let Some(outcome) = &pool.outcome {
                p { @if pool.applied == Some(false) { strong { "Not carried out: " } } (text(outcome)) }
            }
            @if let Some(at) = pool.at {
                p .when { "Decided " (ago(at)) @if let Some(leader) = &pool.leader { " by " (text(leader)) } }
            }
        }
    }
}
