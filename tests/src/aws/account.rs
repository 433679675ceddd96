//! An account of its own on the emulator, with clients for it.

use super::{Emulator, Options, Pipeline};
use crate::http;
use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::{config::Credentials, primitives::ByteStream, types as s3};
use aws_smithy_http_client::tls;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::{fmt::Write as _, path::Path, sync::Arc};

/// The region of everything in the emulator.
pub const REGION: &str = "eu-west-1";

/// Which version an upload made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Without quotes.
    pub etag: String,
    /// In a versioned bucket.
    pub version_id: Option<String>,
}

/// An account that shares nothing with other accounts on the same emulator.
#[derive(Debug, Clone)]
pub struct Account {
    emulator: Arc<Emulator>,
    id: String,
    /// S3, path style.
    pub s3: aws_sdk_s3::Client,
    /// SQS.
    pub sqs: aws_sdk_sqs::Client,
    /// SNS.
    pub sns: aws_sdk_sns::Client,
}

impl Account {
    /// Returns a new account on the shared emulator.
    ///
    /// # Errors
    /// When the emulator does not start.
    pub async fn new() -> Result<Self> {
        Ok(Self::on(Emulator::shared().await?))
    }

    /// Returns a new account on this emulator.
    #[must_use]
    pub fn on(emulator: Arc<Emulator>) -> Self {
        // The emulator takes an access key of twelve digits for the account's id.
        let id = fastrand::u64(100_000_000_000..1_000_000_000_000).to_string();
        Self::with_id(emulator, id)
    }

    /// Returns the account of that id, twelve digits.
    #[must_use]
    pub fn with_id(emulator: Arc<Emulator>, id: String) -> Self {
        let endpoint = emulator.endpoint().to_owned();
        let credentials = Credentials::new(&id, "secret", None, None, "emulator");
        let http_client = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        let s3 = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::v2026_01_12())
            .region(aws_sdk_s3::config::Region::new(REGION))
            .endpoint_url(&endpoint)
            .force_path_style(true)
            .request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenRequired)
            .credentials_provider(credentials.clone())
            .http_client(http_client.clone())
            .build();
        let sqs = aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::v2026_01_12())
            .region(aws_sdk_sqs::config::Region::new(REGION))
            .endpoint_url(&endpoint)
            .credentials_provider(credentials.clone())
            .http_client(http_client.clone())
            .build();
        let sns = aws_sdk_sns::Config::builder()
            .behavior_version(aws_sdk_sns::config::BehaviorVersion::v2026_01_12())
            .region(aws_sdk_sns::config::Region::new(REGION))
            .endpoint_url(&endpoint)
            .credentials_provider(credentials)
            .http_client(http_client)
            .build();
        Self {
            emulator,
            id,
            s3: aws_sdk_s3::Client::from_conf(s3),
            sqs: aws_sdk_sqs::Client::from_conf(sqs),
            sns: aws_sdk_sns::Client::from_conf(sns),
        }
    }

    /// Returns the account's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the emulator it is on.
    #[must_use]
    pub fn emulator(&self) -> &Arc<Emulator> {
        &self.emulator
    }

    /// Returns the environment in which a child process works in this account.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.emulator.endpoint()),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", &self.id),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Creates bucket, topic and queues and wires them up.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn pipeline(&self, options: Options) -> Result<Pipeline> {
        Pipeline::create(self.clone(), options).await
    }

    /// Creates a bucket.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn create_bucket(&self, bucket: &str, versioned: bool) -> Result<()> {
        let place =
            s3::CreateBucketConfiguration::builder().location_constraint(s3::BucketLocationConstraint::EuWest1).build();
        self.s3
            .create_bucket()
            .bucket(bucket)
            .create_bucket_configuration(place)
            .send()
            .await
            .context("create bucket")?;
        if versioned {
            let enabled = s3::VersioningConfiguration::builder().status(s3::BucketVersioningStatus::Enabled).build();
            self.s3.put_bucket_versioning().bucket(bucket).versioning_configuration(enabled).send().await?;
        }
        Ok(())
    }

    /// Puts an object.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn put(&self, bucket: &str, key: &str, bytes: impl Into<Vec<u8>>) -> Result<Stored> {
        self.put_stream(bucket, key, ByteStream::from(bytes.into())).await
    }

    /// Puts a file's content, without holding it in memory.
    ///
    /// # Errors
    /// When the file cannot be read or the emulator refuses.
    pub async fn put_file(&self, bucket: &str, key: &str, file: &Path) -> Result<Stored> {
        self.put_stream(bucket, key, ByteStream::from_path(file).await?).await
    }

    async fn put_stream(&self, bucket: &str, key: &str, body: ByteStream) -> Result<Stored> {
        let put = self.s3.put_object().bucket(bucket).key(key).body(body).send().await;
        let put = put.with_context(|| format!("put s3://{bucket}/{key}"))?;
        Ok(Stored {
            etag: put.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
            version_id: put.version_id().map(str::to_owned),
        })
    }

    /// Deletes an object, or puts a delete marker in a versioned bucket.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        self.s3.delete_object().bucket(bucket).key(key).send().await?;
        Ok(())
    }

    /// Calls an EventBridge action; there is no SDK for it in the workspace, and two calls do not earn one.
    pub(super) async fn event_bridge(&self, action: &str, input: Value) -> Result<Value> {
        let target = format!("AWSEvents.{action}");
        let headers = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", target.as_str())];
        let answer = self.ask("events", &headers, &input.to_string()).await?;
        ensure!(answer.status == 200, "EventBridge {action}: {} {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body).unwrap_or(json!({})))
    }

    /// Calls an action of a service that speaks the query protocol; returns its XML.
    ///
    /// # Errors
    /// When the emulator does not answer or refuses.
    pub async fn query(&self, service: &str, action: &str, parameters: &[(String, String)]) -> Result<String> {
        let mut body = format!("Action={action}");
        for (name, value) in parameters {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            write!(body, "&{name}={value}")?;
        }
        let answer = self.ask(service, &[("Content-Type", "application/x-www-form-urlencoded")], &body).await?;
        ensure!(answer.status == 200, "{service} {action}: {} {}", answer.status, answer.body);
        Ok(answer.body)
    }

    async fn ask(&self, service: &str, headers: &[(&str, &str)], body: &str) -> Result<http::Answer> {
        // The emulator reads the account and the service from the credential and checks no signature.
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0",
            self.id
        );
        let mut headers = headers.to_vec();
        headers.push(("Authorization", &authorization));
        http::request("POST", &format!("{}/", self.emulator.endpoint()), &headers, body).await
    }
}
