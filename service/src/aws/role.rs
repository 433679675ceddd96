//! Roles that are assumed for a queue or a bucket, so that it may be another account's.

use crate::host::host;
use aws_config::{Region, SdkConfig};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use std::{fmt, time::SystemTime};

/// Longest name of a session that STS takes.
const MOST_CHARS: usize = 64;

/// A role, and what its owner wants to be told by whoever assumes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// The external id.
    pub external_id: Option<String>,
}

impl Role {
    /// Returns the role that settings name; the error names the setting and what is wrong with it.
    ///
    /// # Errors
    /// When one is not what IAM takes, or there is an external id without a role.
    pub fn of(arn: Option<&str>, external_id: Option<&str>) -> Result<Option<Self>, (&'static str, &'static str)> {
        let Some(arn) = arn else {
            return if external_id.is_some() { Err(("external_id", "is for a role_arn")) } else { Ok(None) };
        };
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let is_role = matches!(parts[..], ["arn", partition, "iam", "", account, role]
            if partition.starts_with("aws") && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())
                && role.strip_prefix("role/").is_some_and(|name| !name.is_empty()));
        if !is_role {
            return Err(("role_arn", "must be a role's ARN, like arn:aws:iam::123456789012:role/penstock"));
        }
        let is_id = |id: &str| {
            (2..=1224).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
        };
        if !external_id.is_none_or(is_id) {
            return Err(("external_id", "must be 2 to 1224 letters, digits and _ + = , . @ : / -"));
        }
        Ok(Some(Self { arn: arn.to_owned(), external_id: external_id.map(str::to_owned) }))
    }

    /// Returns a configuration whose calls are made as this role. Whatever is made of it shares one session, which is
    /// asked for anew shortly before its end.
    #[must_use]
    pub fn assumed(&self, config: &SdkConfig) -> SdkConfig {
        let mut own = config.clone().into_builder();
        if config.region().is_none() {
            // Any region's STS will do.
            own.set_region(Some(Region::from_static("us-east-1")));
        }
        let client = aws_sdk_sts::Client::new(&own.build());
        let provider = SharedCredentialsProvider::new(Assuming { client, role: self.clone() });
        config.clone().into_builder().credentials_provider(provider).build()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = if self.external_id.is_some() { "with" } else { "without" };
        write!(f, "role {} ({with} an external id)", self.arn)
    }
}

/// What [`RoleRefused`] says, in any case.
pub const REFUSED: &str = "cannot be assumed";

/// That a role is not given to us, in the words of STS.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{role} {REFUSED}: {why}")]
pub struct RoleRefused {
    role: Role,
    why: String,
}

/// Returns that a role was refused, where an error comes from that.
#[must_use]
pub fn refused<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e RoleRefused> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        next = error.source();
    }
    None
}

#[derive(Debug)]
struct Assuming {
    client: aws_sdk_sts::Client,
    role: Role,
}

impl ProvideCredentials for Assuming {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }
}

impl Assuming {
    async fn ask(&self) -> provider::Result {
        let role = &self.role;
        let request = self.client.assume_role().role_arn(&role.arn).set_external_id(role.external_id.clone());
        let given = match request.role_session_name(session_name(&host())).send().await {
            Ok(answer) => answer.credentials,
            Err(error) => return Err(sort(role, error)),
        };
        let given = given.ok_or_else(|| CredentialsError::provider_error(format!("STS gave no session of {role}")))?;
        let end = SystemTime::try_from(given.expiration).map_err(CredentialsError::provider_error)?;
        Ok(Credentials::new(given.access_key_id, given.secret_access_key, Some(given.session_token), Some(end), "role"))
    }
}

/// Tells a refusal from what may pass.
fn sort<E>(role: &Role, error: SdkError<E>) -> CredentialsError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let SdkError::ServiceError(said) = &error else { return CredentialsError::provider_error(error) };
    let code = said.err().code().unwrap_or_default();
    if is_passing(said.raw().status().as_u16(), code) {
        return CredentialsError::provider_error(error);
    }
    let why = format!("{code}: {}", said.err().message().unwrap_or("no reason given"));
    CredentialsError::provider_error(RoleRefused { role: role.clone(), why })
}

/// Whether it is trouble of the service, too many requests, or our own credentials and clock.
fn is_passing(status: u16, code: &str) -> bool {
    let ours = [
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "IDPCommunicationError",
    ];
    status >= 500 || matches!(status, 408 | 429) || code.contains("Throttl") || ours.contains(&code)
}

/// Returns the session's name, by which the role's owner finds it in CloudTrail.
fn session_name(host: &str) -> String {
    let host = host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    "penstock-".chars().chain(host).take(MOST_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_an_arn_and_perhaps_an_external_id() {
        let role = "arn:aws:iam::123456789012:role/path/penstock";
        for (arn, id, expected) in [
            (None, None, None),
            (Some(role), Some("Partner-1"), None),
            (Some("arn:aws-cn:iam::123456789012:role/r"), None, None),
            (None, Some("Partner-1"), Some("external_id")),
            (Some(role), Some("x"), Some("external_id")),
            (Some(role), Some("two words"), Some("external_id")),
            (Some("arn:aws:iam::123456789012:user/u"), None, Some("role_arn")),
            (Some("arn:aws:iam::12345:role/r"), None, Some("role_arn")),
            (Some("arn:aws:iam::123456789012:role/"), None, Some("role_arn")),
            (Some("penstock"), None, Some("role_arn")),
        ] {
            let read = Role::of(arn, id);
            assert_eq!(read.as_ref().err().map(|(setting, _)| *setting), expected, "{arn:?} {id:?}");
            let read = read.ok().flatten();
            assert_eq!(read.is_some(), expected.is_none() && arn.is_some(), "{arn:?} {id:?}");
        }
    }

    #[test]
    fn what_may_pass_is_no_refusal() {
        for (status, code, expected) in [
            (403, "AccessDenied", false),
            (404, "NoSuchEntity", false),
            (400, "ValidationError", false),
            (403, "RegionDisabledException", false),
            (403, "ExpiredToken", true),
            (403, "InvalidClientTokenId", true),
            (400, "Throttling", true),
            (429, "", true),
            (503, "ServiceUnavailable", true),
        ] {
            assert_eq!(is_passing(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn a_session_is_named_after_the_machine_in_what_sts_takes() {
        assert_eq!(session_name("ip-10-0-0-1.eu_west"), "penstock-ip-10-0-0-1.euwest");
        assert_eq!(session_name(&"x".repeat(100)).len(), MOST_CHARS);
    }
}
