//! `/reports`: SQL of a team's own, drawn, exported, and kept from doing harm.

use super::stand::{LIMIT, Stand, seen};
use anyhow::{Context as _, Result};
use penstock_tests::{
    database::Database,
    postgres::Postgres,
    process::{Ended, Program},
    proxy::Proxy,
    wait,
};
use serde_json::{Value, json};
use std::fs;

/// Ten days of two shops, and what no report may read.
const TABLES: &str = "CREATE SCHEMA shop; \
    CREATE TABLE shop.orders AS SELECT d AS day, 'shop ' || s AS shop, (d * s)::numeric / 4 AS amount \
        FROM generate_series(1, 10) d, generate_series(1, 2) s; \
    CREATE TABLE shop.secret (word text); INSERT INTO shop.secret VALUES ('sesame'); \
    CREATE FUNCTION shop.meddle() RETURNS int LANGUAGE sql AS 'INSERT INTO shop.orders VALUES (0); SELECT 1'; \
    CREATE SEQUENCE shop.number; GRANT ALL ON shop.orders, shop.number TO {role}; GRANT USAGE, CREATE ON SCHEMA shop TO {role}; \
    ALTER ROLE {role} SET search_path = shop";

/// A console with reports, which run as a role of their own.
struct Office {
    stand: Stand,
    role: String,
    /// Between the reports and the database.
    proxy: Proxy,
}

impl Office {
    async fn new(reports: &[(&str, &str)]) -> Result<Self> {
        let database = Postgres::shared()?.create_database_with_ledger().await?;
        let role = format!("reports_of_{}", database.name());
        database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'")).await?;
        database.execute(&TABLES.replace("{role}", &role)).await?;
        let proxy = Proxy::start(database.postgres().host_and_port()).await?;
        let url = format!("postgres://{role}:{role}@{}/{}", proxy.address(), database.name());
        let own = database.url();
        let stand = Stand::on(database, &own, &format!("[reports]\ndatabase_url = \"{url}\"")).await?;
        fs::create_dir(stand.scratch.path().join("reports"))?;
        let office = Self { stand, role, proxy };
        for (name, text) in reports {
            office.write(name, text)?;
        }
        Ok(office)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.stand.scratch.path().join("reports").join(format!("{name}.sql")), text)?)
    }

    fn database(&self) -> &Database {
        &self.stand.database
    }

    /// Returns a report's first value as JSON, or why there is none.
    async fn first(&self, path: &str) -> Result<Value> {
        let answer = self.stand.ask(path, &[]).await?;
        let Ok(json) = serde_json::from_str::<Value>(&answer.body) else { return Ok(answer.body.trim().into()) };
        let failure = &json["failure"];
        Ok(if failure.is_null() { json["value"]["rows"][0][0].clone() } else { failure.clone() })
    }

    async fn check(&self) -> Result<Ended> {
        let program = Program::new("console").args(["check", "--config", "console.toml"]);
        program.env("DATABASE_URL", self.database().url()).in_directory(self.stand.scratch.path()).run(LIMIT).await
    }

    /// Roles belong to the whole server.
    async fn close(self) -> Result<()> {
        let role = &self.role;
        self.database().execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;
        self.stand.console.terminate(LIMIT).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_drawn_has_its_figures_and_is_exported() -> Result<()> {
    let line = "-- title: Amounts\n-- chart: line\n\nSELECT date '2026-01-01' + day AS day, \
        sum(amount) FILTER (WHERE shop = 'shop 1') AS one, sum(amount) FILTER (WHERE shop = 'shop 2') AS two \
        FROM orders GROUP BY day ORDER BY day DESC";
    let office = Office::new(&[
        ("line", line),
        ("bar", "-- chart = bar\nSELECT shop, sum(amount) AS amount FROM orders GROUP BY shop ORDER BY shop"),
        ("number", "-- title: All of it\n-- chart: number\nSELECT sum(amount) * 1000 AS amount, count(*) FROM orders"),
        ("table", "SELECT day, shop, amount, NULL AS none FROM orders ORDER BY day, shop -- and no more"),
        ("empty", "-- chart: bar\nSELECT shop, amount FROM orders WHERE false"),
    ])
    .await?;
    let page = office.stand.page("/reports/line").await?;
    // Once for wide windows and once for narrow ones.
    assert_eq!((page.matches("<svg role=\"img\"").count(), page.matches("<polyline").count()), (2, 4), "{page}");
    let text = seen(&page);
    for words in
        ["Amounts, 10 points from 2026-01-02 to 2026-01-11: one at most 2.5, two at most 5", "The same in figures"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(page.contains("aria-current=\"page\">Reports</a>") && page.contains("data-label=\"day\""), "{page}");
    let page = office.stand.page("/reports/bar").await?;
    assert!(page.matches("<rect").count() == 4 && seen(&page).contains("bar: 2 bars of amount"), "{page}");
    let page = seen(&office.stand.page("/reports/number").await?);
    assert!(page.contains("All of it amount 41,250") && page.contains("count 20"), "{page}");
    let page = office.stand.page("/reports/table").await?;
    assert!(page.matches("<tr>").count() == 21 && !page.contains("<svg"), "{page}");
    assert!(seen(&office.stand.page("/reports/empty").await?).contains("No rows."));

    let list = office.stand.page("/reports").await?;
    assert_eq!(list.matches("<svg role=\"img\"").count(), 4, "{list}");
    assert!(list.contains("<a href=\"/reports/table\">") && seen(&list).contains("amount 41,250"), "{list}");
    let json = office.stand.json("/reports.json").await?;
    assert_eq!(json["value"][3], json!({ "name": "number", "title": "All of it", "chart": "number", "failure": null }));
    let json = office.stand.json("/reports/table.json").await?;
    assert_eq!(json["value"]["rows"][1], json!([1, "shop 2", 0.5, null]));
    let csv = office.stand.ask("/reports/table.csv", &[]).await?;
    assert!(csv.body.starts_with("day,shop,amount,none\r\n1,shop 1,0.25000000000000000000,\r\n"), "{}", csv.body);
    let head = csv.head.to_ascii_lowercase();
    assert!(head.contains("text/csv; charset=utf-8") && head.contains("attachment; filename=\"table.csv\""), "{head}");
    assert_eq!(office.stand.ask("/reports/empty.csv", &[]).await?.body, "shop,amount\r\n");
    for path in ["/reports/none", "/reports/none.csv", "/reports/..%2fconsole", "/reports/%2e%2e%2fconsole.toml"] {
        assert_eq!(office.stand.ask(path, &[]).await?.status, 404, "{path}");
    }
    let checked = office.check().await?;
    assert!(checked.stdout.contains("reports: line can be run"), "{}", checked.stdout);
    office.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_bound_and_what_is_none_is_refused_by_name() -> Result<()> {
    let asked = "-- param who: text = nobody\n-- param days: integer = 7\n-- param since: date = 2026-01-31\n\
        SELECT $1 || '/' || $2 || '/' || $3, (SELECT count(*) FROM orders WHERE day <= $2)";
    let office = Office::new(&[("asked", asked), ("more", "-- param a: integer = 1\nSELECT $1 + $2::int")]).await?;
    assert_eq!(office.first("/reports/asked.json").await?, "nobody/7/2026-01-31");
    assert_eq!(office.first("/reports/asked.json?days=30&who=").await?, "/30/2026-01-31");
    let injected = "';%20DROP%20TABLE%20shop.orders;%20--";
    assert_eq!(
        office.first(&format!("/reports/asked.json?who={injected}")).await?,
        "'; DROP TABLE shop.orders; --/7/2026-01-31"
    );
    let page = office.stand.page(&format!("/reports/asked?who={injected}&days=3")).await?;
    assert!(page.contains("value=\"'; DROP TABLE shop.orders; --\"") && page.contains("value=\"3\""), "{page}");
    assert!(page.contains("/reports/asked.csv?who=%27%3B%20DROP"), "{page}");
    assert_eq!(office.database().value("SELECT count(*) FROM shop.orders").await?, "20");
    for (query, words) in [
        ("days=1;%20DROP", "days: must be a whole number of at most 2,147,483,647"),
        ("since=2026-02-30", "since: must be a date like 2026-01-31, or an age like 7d"),
        ("dyas=3", "dyas: the report has no such parameter"),
    ] {
        for path in ["asked", "asked.json", "asked.csv"] {
            let answer = office.stand.ask(&format!("/reports/{path}?{query}"), &[]).await?;
            assert!(answer.status == 400 && seen(&answer.body).contains(words), "{path}: {}", answer.body);
        }
    }
    assert_eq!(
        office.first("/reports/more.json").await?,
        "reports/more.sql:2: the SQL has $2, and the header 1 parameters"
    );
    office.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_one_query_is_run_and_nothing_is_written() -> Result<()> {
    let one_query = "a report is one query: SELECT, VALUES or WITH";
    let read_only = "in a read-only transaction";
    let cases = [
        ("INSERT INTO orders VALUES (99)", one_query),
        ("INSERT INTO orders VALUES (99) RETURNING day", one_query),
        (
            "WITH new AS (INSERT INTO orders VALUES (99) RETURNING day) SELECT * FROM new",
            "must not contain data-modifying",
        ),
        ("SELECT meddle()", read_only),
        ("SELECT nextval('number')", read_only),
        ("SELECT set_config('transaction_read_only', 'off', true), meddle()", "read-write mode"),
        ("SELECT * FROM orders FOR UPDATE", read_only),
        ("SELECT 1 AS a INTO shop.new", one_query),
        ("COMMIT", one_query),
        ("SET statement_timeout = 0", one_query),
        ("DO 'BEGIN INSERT INTO orders VALUES (99); END'", one_query),
        ("CREATE TABLE shop.new ()", one_query),
        ("SELECT 1; SELECT 2", "a report is one query, and this has several"),
        ("SELECT 1; COMMIT; INSERT INTO orders VALUES (99)", "a report is one query, and this has several"),
    ];
    let office = Office::new(&[]).await?;
    for (n, (sql, words)) in cases.into_iter().enumerate() {
        office.write(&format!("bad{n}"), &format!("-- title: Bad\n\n{sql}"))?;
        let said = office.first(&format!("/reports/bad{n}.json")).await?;
        let said = said.as_str().unwrap_or_default();
        assert!(said.starts_with(&format!("reports/bad{n}.sql:3: ")) && said.contains(words), "{sql}: {said}");
        assert_eq!(office.stand.ask(&format!("/reports/bad{n}.csv"), &[]).await?.status, 503);
    }
    assert_eq!(office.database().value("SELECT count(*) FROM shop.orders").await?, "20");
    assert_eq!(office.database().value("SELECT is_called FROM shop.number").await?, "false");
    assert_eq!(office.database().value("SELECT to_regclass('shop.new')").await?, "∅");
    // And the next is run as if nothing had been.
    office.write("good", "SELECT current_setting('transaction_read_only') || current_setting('statement_timeout')")?;
    assert_eq!(office.first("/reports/good.json").await?, "on5s");
    office.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_stopped_and_the_others_stand() -> Result<()> {
    let slow = "-- title: Slow\n-- chart: number\nSELECT pg_sleep(60)";
    let office = Office::new(&[("fast", "-- chart: number\nSELECT 42 AS answer"), ("slow", slow)]).await?;
    let page = seen(&office.stand.page("/reports").await?);
    for words in ["fast answer 42", "Slow reports/slow.sql:3: took longer than 5 s and was stopped. It is tried again."]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'penstock reports' AND usename = '{}' AND state <> 'idle'";
    let busy = busy.replace("{}", &office.role);
    assert_eq!(office.database().value(&busy).await?, "0");
    // While one is run, the next waits, and says so when it waited for too long.
    office.write("slower", "SELECT pg_sleep(59)")?;
    office.write("also", "SELECT 1")?;
    let (one, two) = tokio::join!(office.first("/reports/slower.json"), office.first("/reports/also.json"));
    assert_eq!((one?, two?), ("reports/slower.sql:1: took longer than 5 s and was stopped".into(), 1.into()));
    office.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn values_names_and_titles_of_all_kinds_are_shown_as_text() -> Result<()> {
    let hostile = "-- title: <script>alert(1)</script>\n-- chart: {chart}\n\
        SELECT '\"><img src=x onerror=alert(1)>' || chr(8238) || '=1+1' AS \"<script>alert(2)</script>\", 1 AS \"=<b>\u{202e}\", 2 AS \"\"\"x\"";
    let office = Office::new(&[]).await?;
    for chart in ["bar", "table", "number"] {
        office.write(chart, &hostile.replace("{chart}", chart))?;
    }
    office.write(
        "line",
        "-- chart: line\nSELECT day, day AS \"<script>alert(2)</script>\", day AS \"<img src=x>\" FROM orders",
    )?;
    office.write("formula", "SELECT '=1+1' AS \"@x\", '-2' AS t, -2 AS n UNION ALL SELECT 'a,\"b', NULL, 3")?;
    for path in ["/reports", "/reports/line", "/reports/bar", "/reports/table", "/reports/number"] {
        let page = office.stand.page(path).await?;
        for raw in ["<script>alert", "<img", "<b>", "\u{202e}"] {
            assert!(!page.contains(raw), "{path} has {raw:?}: {page}");
        }
        if path != "/reports/line" {
            assert!(seen(&page).contains("<script>alert(1)</script>"), "{path}");
        }
    }
    let page = seen(&office.stand.page("/reports/table").await?);
    assert!(page.contains("\"><img src=x onerror=alert(1)>\\u{202e}=1+1"), "{page}");
    let csv = office.stand.page("/reports/formula.csv").await?;
    assert_eq!(csv, "'@x,t,n\r\n'=1+1,'-2,-2\r\n\"a,\"\"b\",,3\r\n");
    assert_eq!(office.stand.json("/reports/formula.json").await?["value"]["rows"][0], json!(["=1+1", "-2", -2]));
    office.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_a_file_is_said_with_its_line_on_the_page_and_by_check() -> Result<()> {
    let office = Office::new(&[
        ("fine", "SELECT 1"),
        ("pie", "-- title: Pie\n-- chart: pie\nSELECT 1"),
        ("typo", "-- title: Typo\n\nSELECT day,\n  amuont\nFROM orders"),
        ("words", "-- chart: line\nSELECT shop, amount FROM orders"),
        ("denied", "SELECT word\nFROM secret"),
        ("bad name", "SELECT 1"),
    ])
    .await?;
    let expected = [
        ("pie", "reports/pie.sql:2: chart: `pie` is none of `line`, `bar`, `table` and `number`"),
        ("typo", "reports/typo.sql:4: column \"amuont\" does not exist"),
        (
            "words",
            "reports/words.sql:1: chart: `line` needs a time or a number as its first column, and a number behind it",
        ),
        ("denied", "reports/denied.sql:1: permission denied for table secret"),
        ("bad%20name", "reports/bad name.sql: a report's name has ASCII letters, digits, `_` and `-`"),
    ];
    let checked = office.check().await?;
    assert_eq!(checked.status.code(), Some(2));
    let list = seen(&office.stand.page("/reports").await?);
    for (name, words) in expected {
        let page = seen(&office.stand.ask(&format!("/reports/{name}"), &[]).await?.body);
        assert!(page.contains(words.split(" `").next().unwrap_or_default()), "{name}: {page}");
        assert!(checked.stdout.contains(&format!("wrong: reports: {words}")), "{words}: {}", checked.stdout);
    }
    assert!(list.contains("reports/pie.sql:2: chart:") && list.contains("reports/words.sql:1: chart:"), "{list}");
    assert!(checked.stdout.contains("reports: fine can be run"), "{}", checked.stdout);
    fs::remove_dir_all(office.stand.scratch.path().join("reports"))?;
    let answer = office.stand.ask("/reports", &[]).await?;
    assert_eq!(answer.status, 503);
    assert!(seen(&answer.body).contains("reports.directory: read reports: No such file"), "{}", answer.body);
    assert!(office.check().await?.stdout.contains("wrong: reports: reports.directory: read reports: No such file"));
    office.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_run_as_their_own_login_which_check_looks_at() -> Result<()> {
    let who = "SELECT current_user || ' ' || current_setting('search_path') || ' ' || current_setting('timezone')";
    let office = Office::new(&[("who", who)]).await?;
    let role = office.role.clone();
    assert_eq!(office.first("/reports/who.json").await?, format!("{role} shop UTC"));
    let checked = office.check().await?;
    let words = format!("warning: reports: {role}, as whom they run, may write to shop.orders");
    assert!(checked.stdout.contains(&words), "{}", checked.stdout);
    office.database().execute(&format!("REVOKE ALL ON shop.orders FROM {role}")).await?;
    let checked = office.check().await?;
    assert!(
        checked.stdout.contains(&format!("reports: run as {role}, which may write to no table")),
        "{}",
        checked.stdout
    );
    assert_eq!(checked.status.code(), Some(0), "{}{}", checked.stdout, checked.stderr);
    office.database().execute(&format!("ALTER ROLE {role} SUPERUSER")).await?;
    let checked = office.check().await?;
    assert!(checked.stdout.contains("as whom they run, may write to all;"), "{}", checked.stdout);

    // Without `[reports]` there is neither a page nor the way to it.
    let stand = Stand::new("", "").await?;
    assert!(!stand.page("/").await?.contains("Reports"));
    for path in ["/reports", "/reports.json", "/reports/who"] {
        assert_eq!(stand.ask(path, &[]).await?.status, 404, "{path}");
    }
    office.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_kept_for_a_while_and_a_changed_file_is_read_at_once() -> Result<()> {
    let now = "SELECT clock_timestamp()::text";
    let office = Office::new(&[("now", now), ("many", "SELECT generate_series(1, 5000)")]).await?;
    let first = office.first("/reports/now.json").await?;
    assert_eq!(office.first("/reports/now.json").await?, first);
    office.write("now", &format!("-- every: 5s\n{now}"))?;
    let second = office.first("/reports/now.json").await?;
    assert_ne!(first, second);
    wait::until("it to be read anew", LIMIT, || async {
        Ok((office.first("/reports/now.json").await? != second).then_some(()))
    })
    .await?;
    let page = seen(&office.stand.page("/reports/many").await?);
    for words in ["The first 200 of 2,000 rows.", "CSV of the first 2,000 rows: there are more"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert_eq!(office.stand.json("/reports/many.json").await?["value"]["is_cut"], true);
    let csv = office.stand.ask("/reports/many.csv", &[]).await?;
    assert!(
        csv.head.contains("filename=\"many.first-2000-rows.csv\"") && csv.body.lines().count() == 2001,
        "{}",
        csv.head
    );
    office.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_said_with_what_was_seen_last_and_is_found_again() -> Result<()> {
    let office =
        Office::new(&[("now", "-- every: 5s\n-- chart: number\nSELECT 42 AS answer, pg_backend_pid() AS pid")]).await?;
    assert!(seen(&office.stand.page("/reports/now").await?).contains("answer 42"));
    office.proxy.shut();
    let lost = wait::until("the page to say so", LIMIT, || async {
        let page = seen(&office.stand.page("/reports/now").await?);
        Ok(page.contains("Postgres cannot be reached").then_some(page))
    })
    .await?;
    assert!(lost.contains("Last seen") && lost.contains("answer 42"), "{lost}");
    // Another thing is read over other connections.
    assert!(!seen(&office.stand.page("/").await?).contains("Postgres cannot be reached"));
    office.proxy.open();
    wait::until("the database to be found again", LIMIT, || async {
        Ok((!seen(&office.stand.page("/reports/now").await?).contains("cannot be reached")).then_some(()))
    })
    .await?;
    // None of its sessions outlives what it was for.
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'penstock reports' AND usename = '{}'";
    assert_eq!(office.database().value(&left.replace("{}", &office.role)).await?, "0");
    office.close().await.context("close")
}
