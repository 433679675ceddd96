//! Pictures of the pages, for the README and the guide; `UPDATE=1` renews them.

use super::{WAREHOUSE, start};
use crate::console::stand::Stand;
use anyhow::{Context as _, Result, ensure};
use penstock_tests::{browser::View, repository};
use std::{fs, path::Path};

/// A larger one makes a page slow to read.
const MOST_BYTES: usize = 150_000;

/// Where the pages have them, what they show, and how it is looked at.
const PICTURES: [(&str, &str, View); 3] = [
    ("console-now.png", "/?span=6h", View { width: 1080, height: 820, scale: 1.0, is_dark: false }),
    ("console-phone.png", "/?span=6h", View { width: 390, height: 800, scale: 1.25, is_dark: true }),
    ("console-object.png", "/objects/2", View { width: 1080, height: 820, scale: 1.0, is_dark: false }),
];

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_of_what_there_is_and_small() -> Result<()> {
    let stand = Stand::new(WAREHOUSE, "").await?;
    let browser = start().await?;
    let (taken, shown) = (repository().join("target/pictures"), repository().join("docs"));
    fs::create_dir_all(&taken)?;
    for (name, path, view) in PICTURES {
        browser.look(view).await?;
        browser.open(&format!("{}{path}", stand.url)).await?;
        browser
            .until(
                "letters and parts",
                "return document.fonts.status === 'loaded' && !document.querySelector('[data-stream] #live:empty')",
            )
            .await?;
        // What desktops show their own pages in, or something like it.
        browser.run("document.documentElement.style.fontFamily = 'Inter, sans-serif'").await?;
        let picture = browser.picture().await?;
        ensure!(picture.len() < MOST_BYTES, "{name} has {} bytes", picture.len());
        fs::write(taken.join(name), &picture)?;
        if std::env::var_os("UPDATE").is_some() {
            fs::write(shown.join(name), &picture)?;
        }
        assert_eq!(
            size(&shown.join(name))?,
            size(&taken.join(name))?,
            "{name} is not the one that is taken: UPDATE=1 renews it"
        );
    }
    Ok(())
}

/// Returns a PNG's width and height.
fn size(file: &Path) -> Result<(u32, u32)> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let number = |at: usize| bytes.get(at..at + 4).and_then(|four| Some(u32::from_be_bytes(four.try_into().ok()?)));
    ensure!(bytes.starts_with(b"\x89PNG"), "{} is no PNG", file.display());
    number(16).zip(number(20)).context("it is cut short")
}
