//! Counts every request to AWS, each try by itself: what the SDK tried again and got in the end was throttled all the same.
//!
//! One interceptor in every client; [`super::client`] puts it there. Services and operations are named by the SDK, results
//! are [`RESULTS`], so that the number of labels is bounded.

use aws_sdk_sts::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{FinalizerInterceptorContextRef, InterceptorContext},
        retry::{ClassifyRetry as _, RetryAction},
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::{orchestrator::Metadata, retries::classifiers::RetryReason};
use aws_smithy_types::retry::ErrorKind;
use sfdata_common::metrics::Totals;

/// How a try ends: AWS did it, said that there were too many, said no, or did not answer in good order.
const RESULTS: [&str; 4] = ["ok", "throttled", "refused", "failed"];

/// The interceptor; clones count together.
#[derive(Debug, Clone)]
pub(in crate::services) struct Requests(Totals<3>);

impl Default for Requests {
    fn default() -> Self {
        Self(Totals::by(["service", "operation", "result"]))
    }
}

impl Requests {
    /// What was counted so far, and will be.
    pub(in crate::services) fn totals(&self) -> Totals<3> {
        self.0.clone()
    }
}

impl Intercept for Requests {
    fn name(&self) -> &'static str {
        "Requests"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(metadata), Some(result)) = (settings.load::<Metadata>(), result(context.inner(), components)) {
            self.0.count([metadata.service().to_owned().into(), metadata.name().to_owned().into(), result.into()]);
        }
        Ok(())
    }
}

/// Nothing for what was only signed and never sent.
fn result(context: &InterceptorContext, components: &RuntimeComponents) -> Option<&'static str> {
    let [ok, throttled, refused, failed] = RESULTS;
    if context.output_or_error()?.is_ok() {
        return Some(ok);
    }
    let status = context.response().map(|response| response.status().as_u16());
    // The judgement by which the SDK itself decides how long it waits.
    let too_many = components.retry_classifiers().any(|classifier| {
        let action = classifier.classify_retry(context);
        let RetryAction::RetryIndicated(RetryReason::RetryableError { kind, .. }) = action else { return false };
        kind == ErrorKind::ThrottlingError
    });
    Some(match status {
        _ if too_many => throttled,
        Some(429) => throttled,
        Some(300..500) => refused,
        _ => failed,
    })
}
