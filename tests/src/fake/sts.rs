//! The token service: session credentials for a web identity's token.

use super::server::{Request, Response, Server};
use anyhow::Result;
use chrono::{Duration, SecondsFormat, Utc};
use std::sync::{Arc, Mutex, PoisonError};

const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/importer";

/// A running stand-in.
#[derive(Debug)]
pub struct Sts {
    server: Server,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Sts {
    /// Starts a service whose credentials have this key, last so many seconds, and carry the identity's token as
    /// their session token.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(access_key_id: &str, lasts_secs: i64) -> Result<Self> {
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&tokens);
        let access_key_id = access_key_id.to_owned();
        let server = Server::start(move |request| answer(&request, &access_key_id, lasts_secs, &noted));
        Ok(Self { server: server.await?, tokens })
    }

    /// Returns the variables that lead a program here.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        [("AWS_ENDPOINT_URL_STS", self.server.url()), ("AWS_ROLE_ARN", ROLE_ARN.to_owned())]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec()
    }

    /// Returns the identity's tokens that were sent, in order.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(request: &Request, access_key_id: &str, lasts_secs: i64, noted: &Mutex<Vec<String>>) -> Response {
    let field = |name: &str| {
        let fields = request.body.split('&').filter_map(|pair| pair.split_once('='));
        fields.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    };
    let (Some("AssumeRoleWithWebIdentity"), Some(token)) = (field("Action").as_deref(), field("WebIdentityToken"))
    else {
        return Response::new(400, "");
    };
    let end = (Utc::now() + Duration::seconds(lasts_secs)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let body = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{access_key_id}</AccessKeyId>\
         <SecretAccessKey>secret</SecretAccessKey><SessionToken>{token}</SessionToken><Expiration>{end}</Expiration>\
         </Credentials><AssumedRoleUser><Arn>{ROLE_ARN}</Arn><AssumedRoleId>a:b</AssumedRoleId></AssumedRoleUser>\
         </AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>\
         </AssumeRoleWithWebIdentityResponse>"
    );
    noted.lock().unwrap_or_else(PoisonError::into_inner).push(token);
    Response::new(200, body)
}
