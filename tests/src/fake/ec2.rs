//! An EC2 instance in an Auto Scaling group: its metadata (version 2 only) and the group's API.

use super::server::{Request, Response, Server};
use anyhow::Result;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The instance's id.
pub const INSTANCE: &str = "i-0123456789abcdef0";
/// The group's name.
pub const GROUP: &str = "penstock-importers";
/// The name of the group's hook for instances that go; it has one for those that come, too.
pub const HOOK: &str = "drain";

/// A running stand-in.
#[derive(Debug)]
pub struct Ec2 {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    lifecycle_state: Option<&'static str>,
    spot_notice: Option<String>,
    hook_timeout_secs: u32,
    is_denied: bool,
    calls: Vec<String>,
    n_without_token: usize,
}

const TOKEN: &str = "AQAEAExampleToken";

impl Ec2 {
    /// Starts an instance that is in service.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start() -> Result<Self> {
        let state = Arc::new(Mutex::new(State {
            lifecycle_state: Some("InService"),
            hook_timeout_secs: 3600,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let server = Server::start(move |request| {
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            if request.path.starts_with("/latest/") { state.metadata(&request) } else { state.group(&request) }
        });
        Ok(Self { server: server.await?, state })
    }

    /// Returns the variables that lead a program here.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        [
            ("AWS_EC2_METADATA_DISABLED", "false".to_owned()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.server.url()),
            ("AWS_ENDPOINT_URL_AUTO_SCALING", self.server.url()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Says what the group is moving the instance to; None takes it out of the group.
    pub fn set_lifecycle_state(&self, state: Option<&'static str>) {
        self.state().lifecycle_state = state;
    }

    /// Gives notice that the spot instance goes at this time (RFC 3339).
    pub fn interrupt(&self, time: &str) {
        self.state().spot_notice = Some(format!("{{\"action\": \"terminate\", \"time\": \"{time}\"}}"));
    }

    /// Sets how long the group waits for a heartbeat or the end.
    pub fn set_hook_timeout_secs(&self, secs: u32) {
        self.state().hook_timeout_secs = secs;
    }

    /// Refuses every call to the group from now on.
    pub fn deny(&self) {
        self.state().is_denied = true;
    }

    /// Returns the calls that changed something, as `SetInstanceProtection true`, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// Returns how many times metadata was asked for without a good token.
    #[must_use]
    pub fn n_without_token(&self) -> usize {
        self.state().n_without_token
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn metadata(&mut self, request: &Request) -> Response {
        if request.path == "/latest/api/token" {
            let Some(ttl) = request.header("x-aws-ec2-metadata-token-ttl-seconds") else {
                return Response::new(400, "missing TTL");
            };
            if request.method != "PUT" {
                return Response::new(405, "");
            }
            let headers = vec![("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", ttl.to_owned())];
            return Response { headers, ..Response::new(200, TOKEN) };
        }
        if request.header("x-aws-ec2-metadata-token") != Some(TOKEN) {
            self.n_without_token += 1;
            return Response::new(401, "");
        }
        let found = match request.path.as_str() {
            "/latest/meta-data/instance-id" => Some(INSTANCE.to_owned()),
            "/latest/meta-data/autoscaling/target-lifecycle-state" => self.lifecycle_state.map(str::to_owned),
            "/latest/meta-data/spot/instance-action" => self.spot_notice.clone(),
            _ => None,
        };
        match found {
            Some(text) => Response::new(200, text),
            None => {
                Response::new(404, "<?xml version=\"1.0\"?><html><head><title>404 - Not Found</title></head></html>")
            }
        }
    }

    fn group(&mut self, request: &Request) -> Response {
        let fields: BTreeMap<&str, &str> = request.body.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let field = |name: &str| fields.get(name).copied().unwrap_or_default();
        let action = field("Action").to_owned();
        if self.is_denied {
            return error(403, "AccessDenied", &format!("not authorized to perform: autoscaling:{action}"));
        }
        let instance = [field("InstanceId"), field("InstanceIds.member.1")].concat();
        if !instance.is_empty() && instance != INSTANCE {
            return error(400, "ValidationError", "Instance Id not found");
        }
        if !field("AutoScalingGroupName").is_empty() && field("AutoScalingGroupName") != GROUP {
            return error(400, "ValidationError", "AutoScalingGroup name not found");
        }
        let state = self.lifecycle_state.unwrap_or_default();
        let waits = state == "Terminated";
        let result = match action.as_str() {
            "DescribeAutoScalingInstances" => format!(
                "<AutoScalingInstances><member><InstanceId>{INSTANCE}</InstanceId>\
                 <AutoScalingGroupName>{GROUP}</AutoScalingGroupName><AvailabilityZone>eu-west-1a</AvailabilityZone>\
                 <LifecycleState>{state}</LifecycleState><HealthStatus>HEALTHY</HealthStatus>\
                 <ProtectedFromScaleIn>false</ProtectedFromScaleIn></member></AutoScalingInstances>"
            ),
            "DescribeLifecycleHooks" => {
                let hook = |name: &str, transition: &str| {
                    format!(
                        "<member><LifecycleHookName>{name}</LifecycleHookName>\
                         <AutoScalingGroupName>{GROUP}</AutoScalingGroupName>\
                         <LifecycleTransition>autoscaling:EC2_INSTANCE_{transition}</LifecycleTransition>\
                         <HeartbeatTimeout>{}</HeartbeatTimeout><DefaultResult>CONTINUE</DefaultResult></member>",
                        self.hook_timeout_secs
                    )
                };
                format!(
                    "<LifecycleHooks>{}{}</LifecycleHooks>",
                    hook("prepare", "LAUNCHING"),
                    hook(HOOK, "TERMINATING")
                )
            }
            "SetInstanceProtection" if state != "InService" => {
                return error(
                    400,
                    "ValidationError",
                    &format!("The instance {INSTANCE} is not in InService or Standby."),
                );
            }
            "SetInstanceProtection" => {
                self.calls.push(format!("{action} {}", field("ProtectedFromScaleIn")));
                String::new()
            }
            "RecordLifecycleActionHeartbeat" | "CompleteLifecycleAction"
                if !waits || field("LifecycleHookName") != HOOK =>
            {
                let text = format!("No active Lifecycle Action found with instance ID {INSTANCE}");
                return error(400, "ValidationError", &text);
            }
            "RecordLifecycleActionHeartbeat" => {
                self.calls.push(action.clone());
                String::new()
            }
            "CompleteLifecycleAction" => {
                self.calls.push(format!("{action} {}", field("LifecycleActionResult")));
                String::new()
            }
            _ => return error(400, "InvalidAction", &action),
        };
        Response::new(
            200,
            format!(
                "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><{action}Result>{result}\
                 </{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
            ),
        )
    }
}

fn error(status: u16, code: &str, message: &str) -> Response {
    let kind = if status < 500 { "Sender" } else { "Receiver" };
    let text = format!(
        "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>{kind}</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    );
    Response::new(status, text)
}
