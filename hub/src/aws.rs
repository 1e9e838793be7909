//! How the hub gets ready to call AWS: region, credentials, time.
//!
//! `signer/kms.rs`, `alerts/channels.rs` and `enrol/iam/organization.rs` are the only files that name an AWS service.

use std::{path::Path, time::Duration};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, profile::ProfileFileCredentialsProvider, retry::RetryConfig,
    timeout::TimeoutConfig,
};

/// Where to call, and as whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) region: &'a str,
    /// A stand-in's URL.
    pub(crate) endpoint_url: Option<&'a str>,
    /// A credentials file of the AWS tools, its `[default]` profile, instead of the task's role.
    pub(crate) credentials_file: Option<&'a Path>,
}

impl Place<'_> {
    /// Calls nobody. `tries` of `each`: the SDK repeats what may be repeated.
    pub(crate) async fn config(&self, tries: u32, each: Duration) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(self.region.to_owned()))
            .retry_config(RetryConfig::standard().with_max_attempts(tries))
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(each).build());
        if let Some(url) = self.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        if let Some(file) = self.credentials_file {
            loader = loader.credentials_provider(from_file(file));
        }
        loader.load().await
    }
}

#[expect(deprecated, reason = "the new name is in a crate that nothing else here needs")]
fn from_file(file: &Path) -> ProfileFileCredentialsProvider {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
    let files = ProfileFiles::builder().with_file(ProfileFileKind::Credentials, file).build();
    ProfileFileCredentialsProvider::builder().profile_files(files).profile_name("default").build()
}
