//! Who may read the pages, and what a browser may do with them.

use super::stand::{LIMIT, Stand};
use anyhow::Result;
use penstock_tests::{process::Program, scratch::Scratch, spawn};
use std::process::Stdio;

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_others_chose_is_refused_and_answers_bind_browsers() -> Result<()> {
    let stand = Stand::new("", "").await?;
    let port = stand.url.rsplit(':').next().unwrap_or_default().to_owned();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("[::1]:80".to_owned(), 200),
        ("192.0.2.1".to_owned(), 200),
        ("evil.example.com".to_owned(), 421),
        ("localhost.evil.example.com".to_owned(), 421),
        ("127.0.0.1.evil.example.com:80".to_owned(), 421),
        (String::new(), 421),
    ] {
        for path in ["/", "/.json", "/now/none", "/objects/1"] {
            let answer = stand.ask(path, &[("Host", &host)]).await?;
            let expected = if status == 200 && path != "/" && path != "/.json" { 404 } else { status };
            assert_eq!(answer.status, expected, "{host} {path}");
        }
    }
    let twice = [("Host", "localhost"), ("Host", "evil.example.com")];
    assert!([400, 421].contains(&stand.ask("/", &twice).await?.status));
    for path in ["/", "/.json", "/objects/1", "/none", "/assets/console.js"] {
        let head = stand.ask(path, &[]).await?.head.to_ascii_lowercase();
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(head.contains(header), "{path}: {head}");
        }
        assert!(!head.contains("set-cookie"), "{head}");
        assert_eq!(head.contains("cache-control: no-store"), !path.starts_with("/assets/"), "{path}: {head}");
    }
    // Nothing of a page needs more than that.
    let page = stand.page("/").await?;
    for inline in [" style=", "<style", "<script>", " onclick", "javascript:", "http://", "https://"] {
        assert!(!page.contains(inline), "{inline}: {page}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        let answer = penstock_tests::http::request(method, &format!("{}/", stand.url), &[], "").await?;
        assert_eq!(answer.status, 405);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_configuration_has_is_let_in() -> Result<()> {
    let stand = Stand::named("console.example.com").await?;
    for (host, status) in [("console.example.com", 200), ("Console.Example.com:443", 200), ("example.com", 421)] {
        assert_eq!(stand.ask("/", &[("Host", host)]).await?.status, status, "{host}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_asked_for_everywhere_but_at_healthz() -> Result<()> {
    let scratch = Scratch::new("passwords")?;
    let password = spawn::tied(penstock_tests::process::binary("console")?, "KILL", None)?
        .args(["password", "ann"])
        .stdin(Stdio::from(std::fs::File::open(scratch.write("secret", "s3cret\n")?)?))
        .output()?;
    let file = scratch.write("passwords", password.stdout)?;
    let auth = format!("[auth]\npassword_file = \"{}\"", file.display());
    let stand = Stand::new("", &auth).await?;
    for path in ["/", "/.json", "/now/stream", "/objects/1", "/assets/console.js", "/none"] {
        let answer = stand.ask(path, &[]).await?;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.head.to_ascii_lowercase().contains("www-authenticate: basic"), "{}", answer.head);
    }
    // ann:s3cret, ann:wrong, bob:s3cret, nonsense
    for (login, status) in [
        ("Basic YW5uOnMzY3JldA==", 200),
        ("Basic YW5uOndyb25n", 401),
        ("Basic Ym9iOnMzY3JldA==", 401),
        ("Basic %", 401),
    ] {
        for _ in 0..2 {
            assert_eq!(stand.ask("/", &[("Authorization", login)]).await?.status, status, "{login}");
        }
    }
    assert_eq!(stand.ask("/healthz", &[]).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_s_word_counts_from_its_address_only() -> Result<()> {
    for (proxy, status) in [("127.0.0.1", 200), ("192.0.2.1", 401)] {
        let stand = Stand::new("", &format!("[auth]\ntrusted_header = \"X-User\"\nproxy = \"{proxy}\"")).await?;
        assert_eq!(stand.ask("/", &[("X-User", "ann")]).await?.status, status, "{proxy}");
        assert_eq!(stand.ask("/", &[]).await?.status, 401, "{proxy}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_start_where_anybody_could_read_or_without_its_passwords() -> Result<()> {
    let scratch = Scratch::new("console")?;
    let database = "[database]\nurl = \"postgres://u@localhost/d\"\n";
    for (settings, said) in [
        ("[http]\nlisten = \"0.0.0.0:0\"", "console.toml:4: http.listen: is beyond this machine's loopback"),
        ("[auth]\npassword_file = \"none\"", "auth.password_file: read none: "),
        ("[auth]\npassword_file = \"console.toml\"", "console.toml:1: must be a name, a colon and an argon2 hash"),
        ("[auth]\ntrusted_header = \"X-User\"", "console.toml:4: auth.trusted_header: anybody can send a header"),
        ("show_values = 1", "console.toml:3: database.show_values: unknown field"),
    ] {
        scratch.write("console.toml", format!("{database}{settings}\n"))?;
        let ended = Program::new("console").arg("run").in_directory(scratch.path()).run(LIMIT).await?;
        assert_eq!(ended.status.code(), Some(2), "{settings}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{settings}: {}", ended.stderr);
    }
    let ended = Program::new("console").arg("check").env("CONSOLE_CONFIG", "elsewhere.toml").run(LIMIT).await?;
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("read elsewhere.toml: "), "{}", ended.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_can_be_read_and_what_is_missing() -> Result<()> {
    let stand = Stand::new("", "").await?;
    let check = |url: String| {
        let program = Program::new("console").args(["check", "--config", "console.toml"]).env("DATABASE_URL", url);
        program.in_directory(stand.scratch.path()).run(LIMIT)
    };
    let ended = check(stand.database.url()).await?;
    assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("database: problems can be read"), "{}", ended.stdout);
    let ended = check("postgres://u@127.0.0.1:1/d".into()).await?;
    assert_eq!(ended.status.code(), Some(2));
    assert!(
        ended.stdout.contains("wrong: database: ") && ended.stdout.contains("check that `database.url`"),
        "{}",
        ended.stdout
    );
    Ok(())
}
