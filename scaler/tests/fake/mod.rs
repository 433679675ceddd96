//! An Auto Scaling API that answers as the real one does, over HTTP.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_autoscaling::config::{Credentials, SharedCredentialsProvider};
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::post};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

/// The group every fake has.
pub const GROUP: &str = "importers";

/// What the API knows.
#[derive(Debug, Default)]
pub struct Group {
    pub min: i32,
    pub max: i32,
    pub desired: i32,
    pub instances: Vec<Instance>,
    /// Answers to give instead of the real ones, in order.
    pub faults: VecDeque<Fault>,
    /// The calls that were answered, as `Action argument`.
    pub calls: Vec<String>,
    /// Instances come up when the capacity is raised; otherwise they stay asked for.
    pub launches: bool,
    next: u32,
}

#[derive(Clone, Debug)]
pub struct Instance {
    pub id: String,
    pub state: &'static str,
    pub protected: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Throttled,
    Broken,
}

/// A running fake.
#[derive(Clone)]
pub struct FakeAutoScaling {
    group: Arc<Mutex<Group>>,
    address: SocketAddr,
}

impl FakeAutoScaling {
    pub async fn start(min: i32, max: i32) -> Self {
        let group = Arc::new(Mutex::new(Group { min, max, desired: min, launches: true, ..Group::default() }));
        let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&group));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let fake = Self { group, address };
        fake.group().launch();
        fake
    }

    pub fn group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap()
    }

    /// Returns the desired capacity and how many instances are in service.
    pub fn capacity(&self) -> (i32, usize) {
        let group = self.group();
        (group.desired, group.ids().len())
    }

    /// Returns host and port.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    pub fn config(&self) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-west-1"))
            .endpoint_url(format!("http://{}", self.address))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "test")))
            .http_client(service::aws::http_client().expect("no bundle is named"))
            .build()
    }
}

impl Group {
    fn launch(&mut self) {
        while self.launches
            && i32::try_from(self.instances.iter().filter(|i| i.state != "Terminating").count()).unwrap() < self.desired
        {
            self.next += 1;
            self.instances.push(Instance { id: format!("i-{:04}", self.next), state: "InService", protected: false });
        }
    }

    /// Ends what is terminating, as the real one does after a while.
    pub fn finish(&mut self) {
        self.instances.retain(|instance| instance.state != "Terminating");
    }

    pub fn ids(&self) -> Vec<String> {
        self.instances.iter().filter(|i| i.state == "InService").map(|i| i.id.clone()).collect()
    }

    fn act(&mut self, form: &BTreeMap<String, String>) -> Result<String, (StatusCode, &'static str, String)> {
        let invalid = |message: String| Err((StatusCode::BAD_REQUEST, "ValidationError", message));
        match form["Action"].as_str() {
            "DescribeAutoScalingGroups" => {
                let mut members = String::new();
                for instance in &self.instances {
                    let _ = write!(
                        members,
                        "<member><InstanceId>{}</InstanceId><LifecycleState>{}</LifecycleState>\
                         <HealthStatus>Healthy</HealthStatus><AvailabilityZone>eu-west-1a</AvailabilityZone>\
                         <ProtectedFromScaleIn>{}</ProtectedFromScaleIn></member>",
                        instance.id, instance.state, instance.protected
                    );
                }
                if form.get("AutoScalingGroupNames.member.1").map(String::as_str) != Some(GROUP) {
                    return Ok("<AutoScalingGroups/>".to_owned());
                }
                Ok(format!(
                    "<AutoScalingGroups><member><AutoScalingGroupName>{GROUP}</AutoScalingGroupName>\
                     <MinSize>{}</MinSize><MaxSize>{}</MaxSize><DesiredCapacity>{}</DesiredCapacity>\
                     <DefaultCooldown>300</DefaultCooldown><HealthCheckType>EC2</HealthCheckType>\
                     <Instances>{members}</Instances></member></AutoScalingGroups>",
                    self.min, self.max, self.desired
                ))
            }
            "SetDesiredCapacity" => {
                let desired: i32 = form["DesiredCapacity"].parse().unwrap();
                self.calls.push(format!("SetDesiredCapacity {desired}"));
                if desired < self.min || desired > self.max {
                    return invalid(format!("New SetDesiredCapacity value {desired} is out of bounds"));
                }
                self.desired = desired;
                self.launch();
                Ok(String::new())
            }
            "TerminateInstanceInAutoScalingGroup" => {
                let id = form["InstanceId"].clone();
                let decrement = form["ShouldDecrementDesiredCapacity"] == "true";
                self.calls.push(format!("Terminate {id} {decrement}"));
                if decrement && self.desired <= self.min {
                    return invalid("Decrementing would violate the group's min size".to_owned());
                }
                let Some(instance) = self.instances.iter_mut().find(|instance| instance.id == id) else {
                    return invalid(format!("Instance Id not found - No managed instance found for instance ID: {id}"));
                };
                instance.state = "Terminating";
                self.desired -= i32::from(decrement);
                self.launch();
                Ok("<Activity><ActivityId>a</ActivityId></Activity>".to_owned())
            }
            other => Err((StatusCode::BAD_REQUEST, "InvalidAction", other.to_owned())),
        }
    }
}

async fn answer(State(group): State<Arc<Mutex<Group>>>, body: String) -> impl IntoResponse {
    let form: BTreeMap<String, String> = body
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let action = form["Action"].clone();
    let mut group = group.lock().unwrap();
    let result = match group.faults.pop_front() {
        Some(Fault::Throttled) => Err((StatusCode::BAD_REQUEST, "Throttling", "Rate exceeded".to_owned())),
        Some(Fault::Broken) => Err((StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", "oops".to_owned())),
        None => group.act(&form),
    };
    match result {
        Ok(inner) => (
            StatusCode::OK,
            format!(
                "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><{action}Result>{inner}\
                 </{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
            ),
        ),
        Err((status, code, message)) => (
            status,
            format!(
                "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>Sender</Type>\
                 <Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
            ),
        ),
    }
}
