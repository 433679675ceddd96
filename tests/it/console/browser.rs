//! The pages in a browser: readable by everybody, on everything, whatever is in them.

mod pictures;

use super::{
    hostile,
    stand::{LIMIT, Stand, object},
};
use anyhow::{Context as _, Result, ensure};
use penstock_tests::{
    browser::{self, Browser, View},
    postgres::Postgres,
    proxy::Proxy,
    wait,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A warehouse in the middle of an evening.
const WAREHOUSE: &str = include_str!("browser/warehouse.sql");

/// Each kind of page where there is something to show, and words that show it.
const PAGES: [(&str, &str); 11] = [
    ("/?span=6h", "Data is late by"),
    ("/objects", "48201.ndjson.gz"),
    ("/objects?since=yesterday", "since:"),
    ("/objects/2", "They add up."),
    ("/objects/21", "no column vat_rate"),
    ("/datasets/telemetry", "objects imported"),
    ("/datasets/invoices", "3 objects failed"),
    ("/rejects", "humidity_is_percent"),
    ("/rejects?dataset=telemetry&class=constraint&column=humidity", "At most five of each"),
    ("/pools/telemetry?span=6h", "The policy alone would have 31 workers."),
    ("/due", "AuthorizationError"),
];

/// The same where there is nothing.
const EMPTY: [(&str, &str); 7] = [
    ("/", "Unknown whether data is late"),
    ("/objects", "There is none."),
    ("/objects/2", "The ledger knows no such object."),
    ("/datasets/telemetry", "Nothing of it is known."),
    ("/rejects", "None."),
    ("/pools/telemetry", "Nothing was decided yet."),
    ("/due", "Nothing waits."),
];

/// What WCAG 2.2 asks for at levels A and AA, and what else is good practice; returns what a page lacks.
const LACKS: &str = "const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa', 'best-practice']; \
    return axe.run(document, { runOnly: tags, resultTypes: ['violations'] }).then((found) => found.violations.map( \
        (rule) => `${rule.id}: ` + rule.nodes.map((node) => `${node.target}: ${node.failureSummary}`).join('; ')))";

/// Returns what reaches beyond the window's right edge.
const BEYOND: &str = "if (document.documentElement.scrollWidth <= innerWidth) return []; \
    const all = [...document.querySelectorAll('body *')]; \
    return ['beyond:', ...all.filter((one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 200))].slice(0, 5)";

/// Returns the tab stops in their order.
const STOPS: &str = "return [...document.querySelectorAll('a[href], button:not([hidden]), input, select, summary')] \
    .filter((one) => one.checkVisibility()).map((one) => { one.dataset.stop ??= String(window.stops = (window.stops ?? 0) + 1); return one.dataset.stop; })";

#[tokio::test(flavor = "multi_thread")]
async fn everybody_can_read_every_page_on_everything() -> Result<()> {
    let browser = start().await?;
    let database = Postgres::shared()?.create_database_with_ledger().await?;
    database.execute(WAREHOUSE).await?;
    let proxy = Proxy::start(database.postgres().host_and_port()).await?;
    let url = database.url_through(proxy.address());
    let stand = Stand::on(database, &url, "show_values = true").await?;
    for (path, words) in PAGES {
        inspect(&browser, &stand, path, words).await?;
    }
    proxy.shut();
    let is_lost = async || Ok(stand.page("/?span=6h").await?.contains("Before that: data is late").then_some(()));
    wait::until("the database to be missed", LIMIT, is_lost).await?;
    for (path, words) in PAGES {
        let words = if path.contains("yesterday") { words } else { "Postgres cannot be reached" };
        inspect(&browser, &stand, path, words).await?;
    }
    // Never reached, and without a schema.
    for is_shut in [true, false] {
        let database = Postgres::shared()?.create_database().await?;
        let url = if is_shut { database.url_through(proxy.address()) } else { database.url() };
        let words = if is_shut { "Postgres cannot be reached" } else { "the schema penstock is missing" };
        inspect(&browser, &Stand::on(database, &url, "").await?, "/", words).await?;
    }
    let stand = Stand::new("", "").await?;
    for (path, words) in EMPTY {
        inspect(&browser, &stand, path, words).await?;
    }
    // It would have been noticed.
    browser.run("document.querySelector('main').innerHTML += '<img src=\"/none\"><p>' + 'x'.repeat(999)").await?;
    assert!(browser.run(LACKS).await?[0].as_str().is_some_and(|lack| lack.starts_with("image-alt")));
    assert_eq!(browser.run(BEYOND).await?[0], "beyond:");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_others_wrote_runs_or_moves_a_page() -> Result<()> {
    let browser = start().await?;
    let sentinel = "window.ran = []; window.alert = (said) => { window.ran.push(said); }; \
        addEventListener('securitypolicyviolation', (event) => window.ran.push(event.violatedDirective));";
    browser.tell("Page.addScriptToEvaluateOnNewDocument", json!({ "source": sentinel })).await?;
    // Escaping alone has to do.
    browser.tell("Page.setBypassCSP", json!({ "enabled": true })).await?;
    let stand = Stand::new(&hostile::seed(), "show_values = true").await?;
    browser.look(View::TELEPHONE).await?;
    let foreign = "return { ran, scripts: document.scripts.length, images: document.images.length, \
            turned: /[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText + document.title) }";
    for path in hostile::paths(&stand).await? {
        browser.open(&format!("{}{path}", stand.url)).await?;
        if path == "/" {
            browser.until("parts to come", "return document.getElementById('live').textContent === 'live'").await?;
        }
        let found = browser.run(foreign).await?;
        assert_eq!(found, json!({ "ran": [], "scripts": 1, "images": 0, "turned": false }), "{path}");
        assert_eq!(browser.run(BEYOND).await?, json!([]), "{path}");
    }
    for path in ["/", "/objects", "/rejects", "/due", "/objects/2"] {
        inspect(&browser, &stand, path, "onerror=alert(1)").await?;
    }
    // It would have been noticed.
    let smuggle = "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')";
    browser.run(smuggle).await?;
    browser.until("the alert", "return window.ran[0] === '1' || window.ran[0] === 1").await?;
    // And where it is not escaped, the policy holds it.
    browser.tell("Page.setBypassCSP", json!({ "enabled": false })).await?;
    browser.open(&stand.url).await?;
    browser.run(smuggle).await?;
    browser.until("the policy to hold it", "return window.ran[0]?.startsWith?.('script-src')").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_changes_while_it_is_seen_rests_while_it_is_hidden_and_copies_commands() -> Result<()> {
    let stand = Stand::new(&object("a.csv", "failed", "schema", "no column x"), "").await?;
    let browser = start().await?;
    let recorder = "window.sources = []; const Plain = EventSource; \
        window.came = ''; window.EventSource = class extends Plain { constructor(...words) { super(...words); \
            window.sources.push(this); this.addEventListener('message', (event) => { window.came += event.data; }); } }";
    browser.tell("Page.addScriptToEvaluateOnNewDocument", json!({ "source": recorder })).await?;
    browser.open(&stand.url).await?;
    browser.run("window.mark = 'the same page'").await?;
    browser.until("the stream", "return document.getElementById('live').textContent === 'live'").await?;
    let has = |words: &str| format!("return document.getElementById('broken').innerText.includes('{words}')");
    // What is read with the keyboard is left alone.
    browser.run("document.querySelector('#broken a').focus()").await?;
    stand.database.execute(&object("b.csv", "failed", "access", "denied")).await?;
    browser.until("the part to come", "return window.came.includes('denied')").await?;
    assert_eq!(browser.run(&has("denied")).await?, false);
    browser.run("document.activeElement.blur()").await?;
    browser.until("the page to catch up", &has("denied")).await?;

    browser
        .tell("Browser.grantPermissions", json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] }))
        .await?;
    browser.click("#broken [data-copy]").await?;
    browser
        .until("the button to say so", "return document.querySelector('#broken [data-copy]').textContent === 'Copied'")
        .await?;
    let copied = browser.run("return navigator.clipboard.readText()").await?;
    assert_eq!(copied, browser.run("return document.querySelector('#broken .command code').textContent").await?);
    assert!(copied.as_str().is_some_and(|line| line.starts_with("importer ")), "{copied}");

    browser.ask("POST", "/window/minimize", &json!({})).await?;
    browser.until("the page to be hidden", "return document.hidden").await?;
    browser.until("the stream to end", "return window.sources.at(-1).readyState === EventSource.CLOSED").await?;
    assert_eq!(browser.run("return document.getElementById('live').textContent").await?, "paused");
    stand.database.execute(&object("c.csv", "failed", "limits", "too wide")).await?;
    browser.ask("POST", "/window/rect", &json!({ "width": 800, "height": 600 })).await?;
    browser.until("the page to catch up", &has("too wide")).await?;
    assert_eq!(browser.run("return window.mark").await?, "the same page");
    assert_eq!(browser.run("return window.sources.length").await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_reaches_everything_in_order() -> Result<()> {
    let stand = Stand::new(WAREHOUSE, "").await?;
    let browser = start().await?;
    for path in ["/", "/objects", "/objects/2", "/datasets/telemetry", "/rejects", "/pools/telemetry", "/due"] {
        browser.open(&format!("{}{path}", stand.url)).await?;
        let stops = browser.run(STOPS).await?;
        let stops = stops.as_array().context("a list")?;
        ensure!(stops.len() > 8, "{path}: {stops:?}");
        for (place, stop) in stops.iter().enumerate() {
            browser.press("\u{e004}").await?;
            let at = browser.run(FOCUS).await?;
            assert_eq!((&at["stop"], &at["is_seen"]), (stop, &Value::Bool(true)), "{path}, stop {place}: {at}");
        }
    }
    browser.open(&stand.url).await?;
    browser.press("\u{e004}\u{e007}").await?;
    assert_eq!(browser.run("return location.hash").await?, "#main");
    browser.press("\u{e004}").await?;
    assert_eq!(browser.run("return document.activeElement === document.querySelector('main a')").await?, true);
    Ok(())
}

/// Returns where the keyboard is, and whether that is seen: within the window, and with a line around it.
const FOCUS: &str = "const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at); \
    return { stop: at.dataset.stop ?? null, what: at.outerHTML.slice(0, 200), \
        is_seen: box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth \
            && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 }";

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_without_a_script() -> Result<()> {
    let stand = Stand::new(WAREHOUSE, "").await?;
    let browser = Browser::start(&json!({ "profile.default_content_setting_values.javascript": 2 })).await?;
    for (path, words) in PAGES {
        browser.open(&format!("{}{path}", stand.url)).await?;
        let text = browser.run("return document.body.innerText").await?;
        assert!(text.as_str().is_some_and(|text| text.contains(words)), "{path} lacks {words:?}: {text}");
        // What only a script could do is not offered.
        assert_eq!(
            browser
                .run("return [...document.querySelectorAll('[data-copy]')].filter((one) => one.checkVisibility())")
                .await?,
            json!([])
        );
        assert_eq!(
            browser.run("return document.querySelectorAll('[data-done]').length").await?,
            0,
            "{path}: a script ran"
        );
    }
    browser.open(&stand.url).await?;
    assert_eq!(browser.run("return document.querySelector('noscript meta')?.content").await?, "30");
    browser.click("nav a[href='/objects']").await?;
    browser.click("input[name=prefix]").await?;
    browser.press("acme-landing/invoices/\u{e007}").await?;
    browser
        .until(
            "what was searched for",
            "return document.querySelector('#found caption')?.textContent.startsWith('3 entries')",
        )
        .await?;
    browser.click("#found tbody a").await?;
    browser.until("the object", "return document.querySelector('h1')?.textContent.includes('INV-')").await?;
    browser.open(&format!("{}/pools/telemetry", stand.url)).await?;
    browser.click("summary").await?;
    browser.until("the figures", "return document.querySelector('details table').checkVisibility()").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_ends_with_its_handle() -> Result<()> {
    let browser = Browser::start(&json!({})).await?;
    let mark = browser.mark();
    let pids: BTreeSet<u32> = browser::processes(&mark).into_iter().collect();
    assert!(!pids.is_empty());
    drop(browser);
    assert!(browser::processes(&mark).is_empty());
    assert!(!std::path::Path::new(&mark).exists());
    Ok(())
}

/// Starts a browser that has axe in each page.
async fn start() -> Result<Browser> {
    let browser = Browser::start(&json!({})).await?;
    browser.tell("Page.addScriptToEvaluateOnNewDocument", json!({ "source": browser::axe()? })).await?;
    Ok(browser)
}

/// Looks at a page on a desktop in light and on a telephone in dark: it has these words, everybody can read it, nothing of it
/// is beyond the edge, and nothing of it failed.
async fn inspect(browser: &Browser, stand: &Stand, path: &str, words: &str) -> Result<()> {
    browser.look(View::DESKTOP).await?;
    browser.open(&format!("{}{path}", stand.url)).await?;
    let text = browser
        .run("document.querySelectorAll('details').forEach((one) => one.open = true); return document.body.innerText")
        .await?;
    assert!(text.as_str().is_some_and(|text| text.contains(words)), "{path} lacks {words:?}: {text}");
    for view in [View::DESKTOP, View::TELEPHONE] {
        browser.look(view).await?;
        assert_eq!(browser.run(BEYOND).await?, json!([]), "{path} {view:?}");
        assert_eq!(browser.run(LACKS).await?, json!([]), "{path} {view:?}");
    }
    let complaints = browser.complaints().await?;
    assert!(complaints.is_empty(), "{path}: {complaints:?}");
    Ok(())
}
