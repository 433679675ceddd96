//! `/`: the questions of an operator at three in the morning, in their order.

mod able;

use super::{encoded, over_time, problems, title};
use crate::{
    html::{Page, ago, number, panel, secs_or, text, time},
    read::{
        chart::{Point, Span},
        kept::Seen,
        now::{self, Changes, DatasetNow, Lateness, PoolNow, Problem, Server},
    },
};
use maud::{Markup, html};
use serde_json::{Value, json};

/// What the page is made from.
pub struct Now {
    /// The pools.
    pub pools: Seen<Vec<PoolNow>>,
    /// The datasets.
    pub datasets: Seen<Vec<DatasetNow>>,
    /// What is broken.
    pub problems: Seen<Vec<Problem>>,
    /// The server.
    pub server: Seen<Server>,
    /// What changed.
    pub changes: Seen<Changes>,
    /// The pool that is drawn; none without a pool.
    pub drawn: Option<String>,
    /// How far back it is drawn.
    pub span: Span,
    /// The drawn pool over time.
    pub points: Seen<Vec<Point>>,
    /// What starts the database.
    pub start_database: Option<String>,
}

impl Now {
    /// Returns all problems, the most urgent first.
    fn all_problems(&self) -> Seen<Vec<Problem>> {
        let mut all = self.problems.clone();
        let of_pools = self.pools.value.as_deref().map(|pools| now::of_pools(pools)).unwrap_or_default();
        let mut problems = of_pools;
        let start = self.start_database.as_deref();
        problems.extend(now::of_failure(self.pools.failure.as_ref(), self.pools.at, start));
        problems.extend(all.value.iter().flat_map(|known| known.iter().cloned()));
        now::sort(&mut problems);
        if all.value.is_some() || !problems.is_empty() {
            all.value = Some(problems.into());
        }
        all
    }

    /// Returns the page.
    #[must_use]
    pub fn page(&self) -> Page {
        let (_, answer, _) = now::lateness(&self.pools);
        let query = self.query();
        let body = html! {
            @for (id, fragment) in self.fragments() {
                section id=(id) aria-labelledby=(format!("{id}-title")) { (fragment) }
            }
        };
        let (stream, json) = (format!("/now/stream{query}"), format!("/now.json{query}"));
        Page { path: "/", title: answer, stream: Some(stream), json, body }
    }

    fn query(&self) -> String {
        let pool = self.drawn.as_deref().map(|pool| format!("&pool={}", encoded(pool))).unwrap_or_default();
        format!("?span={}{pool}", self.span.word())
    }

    /// Returns the parts of the page by their ids, which stay.
    #[must_use]
    pub fn fragments(&self) -> Vec<(&'static str, Markup)> {
        vec![
            ("late", self.late()),
            ("broken", problems::broken(&self.all_problems())),
            ("able", able::able(&self.pools)),
            ("limit", self.limit()),
            ("changed", self.changed()),
            ("over-time", self.over_time()),
        ]
    }

    /// Returns the same as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let (lateness, answer, detail) = now::lateness(&self.pools);
        json!({
            "late": { "answer": lateness, "words": answer, "detail": detail },
            "pools": self.pools.json(),
            "datasets": self.datasets.json(),
            "problems": self.all_problems().json(),
            "server": self.server.json(),
            "changes": self.changes.json(),
            "over_time": { "pool": self.drawn, "span": self.span.word(), "points": self.points.json() },
        })
    }

    fn late(&self) -> Markup {
        let (lateness, answer, detail) = now::lateness(&self.pools);
        let (class, sign) = match lateness {
            Lateness::Fine => ("fine", "✓"),
            Lateness::Late => ("late", "!"),
            Lateness::Unknown => ("unknown", "?"),
        };
        html! {
            div .status.(class) role="status" {
                span .sign aria-hidden="true" { (sign) }
                div {
                    h1 id="late-title" { (answer) }
                    p { (text(&detail)) }
                }
            }
            (panel(&self.datasets, |datasets| html! {
                @if datasets.is_empty() {
                    p .quiet { "No dataset has imported anything from a queue within 30 days." }
                } @else {
                    table .whole {
                        caption { "Datasets, the one that was quiet for longest first" }
                        thead { tr {
                            th scope="col" { "Dataset" }
                            th scope="col" { "Last import" }
                            th scope="col" .more { "Newest event" }
                            th scope="col" .n.more { "Half within" }
                            th scope="col" .n { "95 % within" }
                        } }
                        tbody {
                            @for dataset in datasets {
                                tr {
                                    th scope="row" { a href=(format!("/datasets/{}", encoded(&dataset.dataset))) { (text(&dataset.dataset)) } }
                                    td { (optional(dataset.newest_import)) }
                                    td .more { (optional(dataset.newest_event)) }
                                    td .n.more { (secs_or(dataset.lag_p50, "–")) }
                                    td .n { (secs_or(dataset.lag_p95, "–")) }
                                }
                            }
                        }
                    }
                }
            }))
        }
    }

    fn over_time(&self) -> Markup {
        let pools = self.pools.value.as_deref().map(Vec::as_slice).unwrap_or_default();
        let Some(drawn) = &self.drawn else {
            return html! { (title("over-time", "Over time")) p .quiet { "There is no pool to draw." } };
        };
        let link = |pool: &str, span: Span| format!("/?span={}&pool={}#over-time", span.word(), encoded(pool));
        html! {
            (title("over-time", "Over time"))
            (over_time::spans(self.span, |span| link(drawn, span)))
            @if pools.len() > 1 {
                nav .spans aria-label="Pool" {
                    @for pool in pools {
                        a href=(link(&pool.pool, self.span)) aria-current=[(pool.pool == *drawn).then_some("true")] {
                            (text(&pool.pool))
                        }
                    }
                }
            }
            (panel(&self.points, |points| over_time::chart(drawn, points, self.span)))
        }
    }

    fn limit(&self) -> Markup {
        let pools = self.pools.value.as_deref().map(Vec::as_slice).unwrap_or_default();
        let commit = pools.iter().filter_map(|pool| pool.commit_secs).reduce(f64::max);
        let cap = pools.iter().filter_map(|pool| Some((pool.sink_cap?, &pool.pool))).min();
        html! {
            (title("limit", "Is Postgres the limit?"))
            (panel(&self.server, |server| {
                let used = server.max_connections - server.free_connections;
                let slow = pools.iter().any(|pool| pool.sink_healthy == Some(false));
                let answer = if slow || server.waiting_for_locks > 1 || server.free_connections < 3 {
                    "Yes, or it soon will be."
                } else {
                    "No."
                };
                html! {
                    p .answer { (answer) }
                    dl {
                        div { dt { "Connections" } dd { (number(used)) " of " (number(server.max_connections)) " used, "
                            (number(server.importer_backends)) " by importers" } }
                        div { dt { "Waiting for locks" } dd { (number(server.waiting_for_locks)) " of them" } }
                        div { dt { "Longest transaction" } dd { (secs_or(server.longest_secs, "not to be seen by this role")) } }
                        div { dt { "A commit takes" } dd { (secs_or(commit, "unknown: no scaler measures it")) } }
                        div { dt { "Workers it was found to take" } dd {
                            @match cap {
                                Some((cap, pool)) => { (number(i64::try_from(cap).unwrap_or(i64::MAX))) " (pool " (text(pool)) ")" }
                                None => "no limit found",
                            }
                        } }
                        div { dt { "Server" } dd { "Postgres " (server.version) @if server.is_replica { ", a replica" } } }
                    }
                }
            }))
        }
    }

    fn changed(&self) -> Markup {
        html! {
            (title("changed", "What changed?"))
            (panel(&self.changes, |changes| html! {
                @if changes.decisions.is_empty() && changes.releases.len() < 2 && changes.made.is_empty() {
                    p .quiet { "Nothing within a day." }
                }
                @if !changes.decisions.is_empty() {
                    ol .changes {
                        @for change in &changes.decisions {
                            li {
                                (ago(change.at)) " pool " (text(&change.pool)) ": "
                                strong { (change.before.map_or("?".into(), |n| n.to_string())) " → " (change.desired) }
                                " " span .word { (text(&change.reason)) }
                                @if !change.applied { " " strong { "not carried out" } }
                                p { (text(&change.explain)) @if let Some(outcome) = &change.outcome { " [" (text(outcome)) "]" } }
                            }
                        }
                    }
                }
                @if changes.releases.len() > 1 {
                    p { "Importers of " (changes.releases.len()) " releases run:" }
                    ul { @for release in &changes.releases {
                        li { (text(&release.version)) ": " (number(release.n)) ", the first since " (time(release.since)) }
                    } }
                }
                @if !changes.made.is_empty() {
                    p { "Datasets whose newest objects were made by several recipes (settings of the dataset):" }
                    ul { @for made in &changes.made {
                        li { (text(&made.dataset)) " by " span .word { (text(&made.recipe)) } ": " (number(made.n)) " objects"
                            @if let Some(since) = made.since { ", the first " (ago(since)) } }
                    } }
                }
            }))
        }
    }
}

fn optional(at: Option<chrono::DateTime<chrono::Utc>>) -> Markup {
    match at {
        Some(at) => ago(at),
        None => html! { "unknown" },
    }
}
