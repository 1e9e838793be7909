//! The `[dispatch]` section: where the key is that signs dispatches.

use std::path::PathBuf;

use serde::Deserialize;

use super::Problem;
use crate::signer::kms::region;

/// The section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dispatch {
    /// ARN of a key of AWS KMS, in place of a file.
    pub kms_key: Option<String>,
    /// Speak to this URL instead of AWS; for a stand-in.
    pub endpoint_url: Option<String>,
    /// A credentials file of the AWS tools, `[default]` profile, instead of the task's role; outside AWS only.
    pub credentials_file: Option<PathBuf>,
}

impl Dispatch {
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        if let Some(value) = self.kms_key.as_ref().filter(|arn| region(arn).is_none()) {
            problems.push(Problem::KmsKey { value: value.clone() });
        }
    }
}
