//! The agent beside an ECS task: its metadata, and its scale-in protection.

use super::server::{Request, Response, Server};
use anyhow::Result;
use chrono::{Duration, Utc};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

const TASK_ARN: &str = "arn:aws:ecs:eu-west-1:123456789012:task/imports/0123456789abcdef0123456789abcdef";

/// A running stand-in.
#[derive(Debug)]
pub struct Agent {
    server: Server,
    wishes: Arc<Mutex<Vec<Value>>>,
}

impl Agent {
    /// Starts an agent whose protection expires after so many seconds, whatever was asked for.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(expires_secs: i64) -> Result<Self> {
        let wishes = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&wishes);
        let server = Server::start(move |request| answer(&request, expires_secs, &noted));
        Ok(Self { server: server.await?, wishes })
    }

    /// Returns the variables that lead a program here.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        [
            ("ECS_AGENT_URI", format!("{}/api/container-1", self.server.url())),
            ("ECS_CONTAINER_METADATA_URI_V4", format!("{}/v4/container-1", self.server.url())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Returns what was asked for, in order.
    #[must_use]
    pub fn wishes(&self) -> Vec<Value> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(request: &Request, expires_secs: i64, noted: &Mutex<Vec<Value>>) -> Response {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v4/container-1/task") => {
            Response::new(200, json!({"Cluster": "imports", "TaskARN": TASK_ARN, "Family": "importer"}).to_string())
        }
        ("PUT", "/api/container-1/task-protection/v1/state") => {
            let wish: Value = serde_json::from_str(&request.body).unwrap_or_default();
            let Some(on) = wish["ProtectionEnabled"].as_bool() else {
                let message = "Invalid request: does not contain 'ProtectionEnabled' field";
                let error =
                    json!({"error": {"Arn": TASK_ARN, "Code": "InvalidParameterException", "Message": message}});
                return Response::new(400, error.to_string());
            };
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(wish);
            let expires = on.then(|| (Utc::now() + Duration::seconds(expires_secs)).to_rfc3339());
            let protection = json!({"ExpirationDate": expires, "ProtectionEnabled": on, "TaskArn": TASK_ARN});
            Response::new(200, json!({"protection": protection}).to_string())
        }
        _ => Response::new(404, "404 page not found"),
    }
}
