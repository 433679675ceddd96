//! The pages: what was read, in HTML and in JSON.

pub mod dataset;
pub mod due;
pub mod now;
pub mod object;
pub mod objects;
mod over_time;
pub mod pool;
mod problems;
pub mod rejects;
pub mod reports;

use maud::{Markup, html};

/// Returns a text as part of an address.
fn encoded(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

/// Returns a part's title.
fn title(id: &str, words: &str) -> Markup {
    html! { h2 id=(format!("{id}-title")) { (words) } }
}
