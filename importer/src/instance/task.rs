//! An ECS task, and its protection through the agent beside it
//! ([task scale-in protection endpoint](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html)).

use super::guard::{ProtectError, Protection};
use anyhow::{Context, ensure};
use axum::body::{self, Body};
use axum::http::{Method, Request, StatusCode, header::CONTENT_TYPE};
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde::Deserialize;
use service::words::chain;
use std::time::Duration;

/// How long protection lasts unless renewed: a worker that died is not kept longer than this.
const EXPIRES_MINUTES: u64 = 30;
/// How long the agent may take; it asks ECS itself.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The task this program runs in.
#[derive(Debug)]
pub struct Task {
    state_uri: String,
}

/// What the agent answers: one of the three. A failure comes with status 200.
#[derive(Debug, Deserialize)]
struct Answer {
    protection: Option<Protected>,
    failure: Option<Failure>,
    error: Option<AgentError>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Protected {
    protection_enabled: bool,
    expiration_date: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    reason: Option<String>,
    detail: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentError {
    code: String,
    message: String,
}

impl Task {
    /// Returns the task whose agent is at this URI (`ECS_AGENT_URI`).
    #[must_use]
    pub fn new(agent: &str) -> Self {
        Self { state_uri: format!("{}/task-protection/v1/state", agent.trim_end_matches('/')) }
    }

    async fn switch(&self, on: bool) -> Result<Option<Duration>, ProtectError> {
        let wish = if on {
            serde_json::json!({"ProtectionEnabled": true, "ExpiresInMinutes": EXPIRES_MINUTES})
        } else {
            serde_json::json!({"ProtectionEnabled": false})
        };
        let (status, text) = send(Method::PUT, &self.state_uri, wish.to_string())
            .await
            .map_err(|error| ProtectError::NotNow(chain(&error)))?;
        read(status, &text, on, Utc::now())
    }
}

impl Protection for Task {
    fn set(&self, on: bool) -> BoxFuture<'_, Result<Option<Duration>, ProtectError>> {
        Box::pin(self.switch(on))
    }
}

/// Reads the agent's answer.
fn read(status: StatusCode, text: &str, on: bool, now: DateTime<Utc>) -> Result<Option<Duration>, ProtectError> {
    let answer: Answer = serde_json::from_str(text)
        .map_err(|error| ProtectError::NotNow(format!("the agent answered {status}, which says nothing: {error}")))?;
    if let Some(protected) = answer.protection.filter(|protected| protected.protection_enabled == on) {
        return Ok(protected.expiration_date.and_then(|date| (date - now).to_std().ok()));
    }
    if let Some(failure) = answer.failure {
        let text =
            format!("{}: {}", failure.reason.as_deref().unwrap_or("failure"), failure.detail.unwrap_or_default());
        // A task that no service looks after is not scaled in by one.
        return Err(match failure.reason.as_deref() {
            Some("TASK_NOT_VALID") => ProtectError::Never(text),
            _ => ProtectError::NotNow(text),
        });
    }
    let Some(error) = answer.error else { return Err(ProtectError::NotNow(format!("the agent answered {status}"))) };
    let text = format!("{}: {}", error.code, error.message);
    Err(match error.code.as_str() {
        "AccessDeniedException" | "UnsupportedFeatureException" => ProtectError::Never(text),
        _ => ProtectError::NotNow(text),
    })
}

/// Asks the task's metadata (`ECS_CONTAINER_METADATA_URI_V4`) for its id: the last part of its ARN.
///
/// # Errors
/// When it does not answer, or without an ARN.
pub async fn id(metadata: &str) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Metadata {
        #[serde(rename = "TaskARN")]
        task_arn: String,
    }
    let (status, text) = send(Method::GET, &format!("{metadata}/task"), String::new()).await?;
    ensure!(status.is_success(), "the task's metadata answered {status}");
    let metadata: Metadata = serde_json::from_str(&text).context("read the task's metadata")?;
    Ok(metadata.task_arn.rsplit('/').next().unwrap_or_default().to_owned())
}

async fn send(method: Method, uri: &str, text: String) -> anyhow::Result<(StatusCode, String)> {
    let request = Request::builder().method(method).uri(uri).header(CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(text)).with_context(|| format!("{uri} is no URI"))?;
    let exchange = async {
        // A connection a call: they are minutes apart.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http::<Body>();
        let answer = client.request(request).await.context("no answer")?;
        let status = answer.status();
        let bytes = body::to_bytes(Body::new(answer.into_body()), MAX_ANSWER_BYTES).await.context("read the answer")?;
        anyhow::Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    };
    tokio::time::timeout(TIMEOUT, exchange)
        .await
        .context("timed out")
        .and_then(|done| done)
        .context("ask the ECS agent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_the_agent_has_a_meaning() {
        let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().expect("a time");
        let check = |status: u16, text: &str, expected: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            let shown = match read(status, text, true, now) {
                Ok(lasts) => format!("on for {:?} s", lasts.map(|lasts| lasts.as_secs())),
                Err(ProtectError::Never(text)) => format!("never: {text}"),
                Err(ProtectError::NotNow(text)) => format!("not now: {text}"),
            };
            assert!(shown.starts_with(expected), "{shown}, not {expected}");
        };
        let protected =
            r#"{"protection":{"ExpirationDate":"2026-01-01T00:30:00Z","ProtectionEnabled":true,"TaskArn":"a"}}"#;
        check(200, protected, "on for Some(1800) s");
        check(200, r#"{"protection":{"ProtectionEnabled":false,"TaskArn":"a"}}"#, "not now: the agent answered 200");
        check(
            200,
            r#"{"failure":{"Arn":"a","Detail":"no service","Reason":"TASK_NOT_VALID"}}"#,
            "never: TASK_NOT_VALID",
        );
        check(200, r#"{"failure":{"Arn":"a","Reason":"DEPLOYMENT_BLOCKED"}}"#, "not now: DEPLOYMENT_BLOCKED");
        check(403, r#"{"error":{"Code":"AccessDeniedException","Message":"m"}}"#, "never: AccessDeniedException: m");
        check(400, r#"{"requestID":"r","error":{"Code":"ThrottlingException","Message":"m"}}"#, "not now: Throttling");
        check(502, "<html>", "not now: the agent answered 502");
    }
}
