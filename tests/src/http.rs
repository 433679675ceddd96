//! Just enough HTTP to ask a server on this machine something.

use anyhow::{Context as _, Result, bail};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The status line and the headers, as they came.
    pub head: String,
    /// The body, as text.
    pub body: String,
}

/// Sends `GET http://host:port/path`.
///
/// # Errors
/// When there is no answer.
pub async fn get(url: &str) -> Result<Answer> {
    request("GET", url, &[], "").await
}

/// Sends a request over a connection of its own; a header `Host` replaces the URL's.
///
/// # Errors
/// When there is no answer, or it is not HTTP.
pub async fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
    let exchange = async {
        let (authority, path) = split(url)?;
        let mut stream = TcpStream::connect(authority).await?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {authority}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(head.as_bytes()).await?;
        let mut bytes = Vec::new();
        // Some servers leave it to us to end the connection.
        while !is_whole(&bytes) && stream.read_buf(&mut bytes).await? > 0 {}
        parse(&bytes)
    };
    tokio::time::timeout(LIMIT, exchange)
        .await
        .context("timed out")
        .flatten_error()
        .with_context(|| format!("{method} {url}"))
}

/// Returns `host:port` of an `http://` URL.
///
/// # Errors
/// When it is not one.
pub fn authority(url: &str) -> Result<&str> {
    Ok(split(url)?.0)
}

fn split(url: &str) -> Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is not an http:// URL"))?;
    Ok(rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash)))
}

/// Returns whether an answer that says how long its body is has all of it.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| bytes.len() - end - 4 >= length)
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("the answer has no end of head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("the answer has no status")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok(Answer { status, head: head.to_owned(), body: if chunked { dechunk(body)? } else { body.to_owned() } })
}

fn dechunk(mut body: &str) -> Result<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").context("a chunk has no size")?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
        if size == 0 {
            return Ok(whole);
        }
        let (Some(chunk), Some(after)) =
            (rest.get(..size), rest.get(size..).and_then(|after| after.strip_prefix("\r\n")))
        else {
            bail!("a chunk is cut short");
        };
        whole.push_str(chunk);
        body = after;
    }
}

/// `Result<Result<T>>` to `Result<T>`.
trait FlattenError<T> {
    fn flatten_error(self) -> Result<T>;
}

impl<T> FlattenError<T> for Result<Result<T>> {
    fn flatten_error(self) -> Result<T> {
        self?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        let answer =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "abcde"));
    }

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answers = ["HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\n", "a", "b"];
        let whole = [1, 2, 3].map(|n| is_whole(answers[..n].concat().as_bytes()));
        assert_eq!(whole, [false, false, true]);
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\n\r\nab"));
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
