//! What every AWS service shares: how it is reached, how long is waited for it, and what its errors mean.
//!
//! Retries are the SDK's own (standard mode) and nobody's else, so that throttling is not answered with more
//! load. An error becomes one [`Error`] here: told apart by code and status, with AWS's request id for its
//! support, and never with a credential in it. Every client that sends is made by [`client`], which has its requests
//! counted.

mod requests;

use std::{error::Error as StdError, fmt, path::Path};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, profile::ProfileFileCredentialsProvider, retry::RetryConfig,
    stalled_stream_protection::StalledStreamProtectionConfig, timeout::TimeoutConfig,
};
use aws_sdk_sts::{
    config::{Credentials, ProvideCredentials as _},
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId as _,
};
use sfdata_common::{error::chain, limits, outcome::FailureCode};

use self::requests::Requests;
use super::Error;
use crate::config;

/// How AWS is reached.
#[derive(Debug, Clone)]
pub struct Aws {
    config: SdkConfig,
    requests: Requests,
}

/// A client of this AWS crate, with settings of its own where it needs some, whose requests are counted.
macro_rules! client {
    ($aws:expr, $service:ident $(, $setting:ident($value:expr))*) => {
        $service::Client::from_conf(
            $service::config::Builder::from($aws.config())
                $(.$setting($value))*
                .interceptor($aws.requests())
                .build(),
        )
    };
}
pub(super) use client;

impl Aws {
    /// Settings for clients. Reads the environment and, where there are some, profile files; calls nobody.
    pub async fn new(settings: &config::Aws) -> Self {
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(limits::AWS_CALL)
            .operation_attempt_timeout(limits::AWS_TRY)
            .build();
        // A stream that stands still for as long as a whole try may take is dead.
        let stalled = StalledStreamProtectionConfig::enabled().grace_period(limits::AWS_TRY).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(settings.region.clone()))
            .retry_config(RetryConfig::standard().with_max_attempts(limits::AWS_TRIES))
            .timeout_config(timeouts)
            .stalled_stream_protection(stalled);
        if let Some(url) = &settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        if let Some(file) = &settings.credentials_file {
            loader = loader.credentials_provider(from_file(file));
        }
        Self { config: loader.load().await, requests: Requests::default() }
    }

    /// For a service's client: see [`client`].
    pub(super) fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Counts the requests of all clients.
    pub(super) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Whether something else than AWS answers: then there is no DNS name for each bucket.
    pub(super) fn is_stand_in(&self) -> bool {
        self.config.endpoint_url().is_some()
    }

    /// The credentials in use, `None` where there is no source of any.
    pub(super) async fn credentials(&self) -> Result<Option<Credentials>, Error> {
        let Some(provider) = self.config.credentials_provider() else { return Ok(None) };
        let found = provider.provide_credentials().await.map_err(|error| {
            let (kind, reason) = unsent(&chain(&error).to_string());
            let remedy = "give the agent's task a role, or correct aws.credentials_file";
            Error::failed(kind, format!("cannot get AWS credentials: {reason}; {remedy}"))
        });
        found.map(Some)
    }

    /// The 12-digit account of the credentials in use. Needs no permission.
    pub async fn account(&self) -> Result<String, Error> {
        let identity = client!(self, aws_sdk_sts)
            .get_caller_identity()
            .send()
            .await
            .map_err(|e| failure("ask STS which account this is", "sts:GetCallerIdentity", e))?;
        identity.account.ok_or_else(|| {
            Error::failed(
                FailureCode::Unavailable,
                "STS answered without an account; try again, or look at aws.endpoint_url",
            )
        })
    }
}

#[expect(deprecated, reason = "the new name is in a crate that nothing else here needs")]
fn from_file(file: &Path) -> ProfileFileCredentialsProvider {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
    let files = ProfileFiles::builder().with_file(ProfileFileKind::Credentials, file).build();
    ProfileFileCredentialsProvider::builder().profile_files(files).profile_name("default").build()
}

/// What went wrong in a call that was to do `tried` and needs `permission`.
pub(super) fn failure<E>(tried: impl fmt::Display, permission: &str, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let request = error.request_id().unwrap_or_default().to_owned();
    let (code, text) = (error.code().map(str::to_owned), error.message().map(shortened));
    let (kind, reason) = match &error {
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => {
            let kind = classify(code.as_deref(), status);
            (kind, told(kind, code.as_deref(), text.as_deref()))
        }
        SdkError::TimeoutError(_) => {
            let all = limits::AWS_CALL.as_secs();
            (FailureCode::Unavailable, format!("AWS did not answer, within {all} s and all tries"))
        }
        SdkError::ConstructionFailure(_) => (FailureCode::Internal, shortened(&chain(&error).to_string())),
        _ => unsent(&chain(&error).to_string()),
    };

    let mut facts: Vec<String> = code.into_iter().collect();
    facts.extend(status.map(|status| format!("HTTP {status}")));
    facts.extend((!request.is_empty()).then(|| format!("request {request}")));
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    let remedy = match (kind, status) {
        (FailureCode::AccessDenied, None) => "give the agent's task a role, or correct aws.credentials_file".into(),
        _ => remedy(kind, permission),
    };
    Error::failed(kind, format!("cannot {tried}: {reason}{facts}; {remedy}"))
}

/// AWS's answer in a few words, and its own where they may be shown.
fn told(kind: FailureCode, code: Option<&str>, text: Option<&str>) -> String {
    let what = match kind {
        FailureCode::Throttled => format!("AWS kept throttling through {} tries", limits::AWS_TRIES),
        FailureCode::AccessDenied => "AWS denies it".into(),
        FailureCode::NotFound => "AWS does not know it".into(),
        FailureCode::Conflict => "something else is changing it".into(),
        FailureCode::Rejected => "AWS refuses the request".into(),
        _ => "AWS answered with an error of its own".into(),
    };
    // What AWS says about a signature quotes the header that carries the access key's id.
    let quotable = !code.is_some_and(|code| code.contains("Signature") || code.contains("Authorization"));
    match text.filter(|text| quotable && !text.is_empty()) {
        Some(text) => format!("{what}: {}", text.trim_end_matches('.')),
        None => what,
    }
}

/// A request that was never answered: there is no connection, or nothing to sign it with.
fn unsent(reason: &str) -> (FailureCode, String) {
    let reason = shortened(reason);
    // The SDK's words when what it has makes no sense, and when no source of its default chain has anything.
    if reason.contains("credentials provider was not properly configured") {
        return (FailureCode::AccessDenied, format!("the AWS credentials cannot be used: {reason}"));
    }
    if reason.contains("credential provider was not enabled") {
        return (FailureCode::AccessDenied, "there are no AWS credentials".into());
    }
    (FailureCode::Unavailable, format!("the request did not get through: {reason}"))
}

fn remedy(kind: FailureCode, permission: &str) -> String {
    match kind {
        FailureCode::Throttled => "try again in a few minutes".into(),
        FailureCode::AccessDenied => {
            format!("the agent's role needs {permission} here (deploy/iam); the LA may have taken it away")
        }
        FailureCode::NotFound => "compare the agent's [platform] settings with the account".into(),
        FailureCode::Conflict => "order it again when the other change has ended".into(),
        FailureCode::Rejected => "correct the order or the resource".into(),
        FailureCode::Internal => "this is a fault of the agent; report it".into(),
        _ => "try again; if it lasts, look at the network and at health.aws.amazon.com".into(),
    }
}

/// What kind of failure an error code and HTTP status of AWS mean. An answer that has no code, such as a page
/// of HTML from something in between, is judged by its status.
pub(super) fn classify(code: Option<&str>, status: Option<u16>) -> FailureCode {
    let code = code.unwrap_or_default();
    match code {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "ProvisionedThroughputExceededException"
        | "PriorRequestNotComplete"
        | "SlowDown"
        | "EC2ThrottledException" => FailureCode::Throttled,

        "AccessDenied"
        | "AccessDeniedException"
        | "AllAccessDisabled"
        | "AuthFailure"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "InvalidToken"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch"
        | "UnauthorizedOperation"
        | "UnrecognizedClientException" => FailureCode::AccessDenied,

        "ClusterNotFoundException"
        | "ServiceNotFoundException"
        | "ServiceNotActiveException"
        | "ResourceNotFoundException"
        | "RepositoryNotFoundException"
        | "DBClusterNotFoundFault"
        | "DBClusterNotFound"
        | "DBClusterSnapshotNotFoundFault"
        | "DBInstanceNotFound"
        | "NoSuchBucket"
        | "NoSuchKey"
        | "NotFound" => FailureCode::NotFound,

        "ConflictException"
        | "OperationAborted"
        | "ResourceInUseException"
        | "UpdateInProgressException"
        | "DBClusterAlreadyExistsFault"
        | "DBClusterSnapshotAlreadyExistsFault"
        | "DBInstanceAlreadyExists"
        | "InvalidDBClusterSnapshotStateFault"
        | "InvalidDBClusterStateFault"
        | "InvalidDBInstanceState" => FailureCode::Conflict,

        _ => match status {
            Some(401 | 403) => FailureCode::AccessDenied,
            Some(404) => FailureCode::NotFound,
            Some(409) => FailureCode::Conflict,
            Some(429) => FailureCode::Throttled,
            Some(300..500) => FailureCode::Rejected,
            // 5xx; or 2xx that could not be read.
            _ => FailureCode::Unavailable,
        },
    }
}

/// One line of at most 300 characters: what AWS says may be a page.
fn shortened(text: &str) -> String {
    const MOST: usize = 300;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_code_and_else_by_status() {
        use FailureCode::*;
        for (code, status, kind) in [
            (Some("ThrottlingException"), Some(400), Throttled),
            (Some("SlowDown"), Some(503), Throttled),
            (Some("AccessDeniedException"), Some(400), AccessDenied),
            (Some("ExpiredToken"), Some(400), AccessDenied),
            (Some("NoSuchBucket"), Some(404), NotFound),
            (Some("DBClusterNotFoundFault"), Some(404), NotFound),
            (Some("ClusterNotFoundException"), Some(400), NotFound),
            (Some("OperationAborted"), Some(409), Conflict),
            (Some("InvalidParameterException"), Some(400), Rejected),
            (Some("PermanentRedirect"), Some(301), Rejected),
            (Some("ServerException"), Some(500), Unavailable),
            (Some("InternalFailure"), Some(500), Unavailable),
            (None, Some(403), AccessDenied),
            (None, Some(429), Throttled),
            (None, Some(500), Unavailable),
            (None, Some(502), Unavailable),
            (None, Some(200), Unavailable),
            (None, None, Unavailable),
        ] {
            assert_eq!(classify(code, status), kind, "{code:?} {status:?}");
        }
    }

    #[test]
    fn no_credentials_are_told_apart_from_no_connection() {
        let none = "dispatch failure: other: the credential provider was not enabled: no credentials found in chain";
        assert_eq!(unsent(none).0, FailureCode::AccessDenied);
        let refused = unsent("dispatch failure: io error: tcp connect error: Connection refused");
        assert_eq!(refused.0, FailureCode::Unavailable);
        assert!(refused.1.contains("Connection refused"));
    }

    #[test]
    fn what_aws_says_is_cut_and_never_quotes_a_key() {
        let page = format!("<html>\n  {}</html>", "é".repeat(1000));
        assert_eq!(shortened(&page).chars().count(), 301);
        assert!(!shortened(&page).contains('\n'));
        let quoting = told(FailureCode::AccessDenied, Some("IncompleteSignature"), Some("Credential=AKIA123/"));
        assert!(!quoting.contains("AKIA"), "{quoting}");
        assert_eq!(told(FailureCode::Rejected, Some("X"), Some("No.")), "AWS refuses the request: No");
    }
}
