//! A dispatch key in AWS KMS: of the spec ECC_NIST_EDWARDS25519, for trust bundles list Ed25519 keys alone.
//!
//! Retries are the SDK's own; calls at a time are bounded here, so that a burst of dispatches is not answered by throttling.

use aws_sdk_kms::{
    Client,
    primitives::Blob,
    types::{KeySpec, MessageType, SigningAlgorithmSpec},
};
use sfdata_common::{error::chain, keys::PublicKey, limits};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::{aws::Place, config::Dispatch, enrol::identity::OfKms};

/// Why a key of KMS can't be the dispatch key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not asked.
    #[error(
        "KMS does not tell the public half of {key}: {why}. The hub's role needs kms:GetPublicKey and kms:Sign on it \
         (deploy/iam/hub-kms.json)"
    )]
    Unreachable {
        /// Its ARN.
        key: String,
        /// What KMS said.
        why: String,
    },
    /// Another kind of key.
    #[error(
        "the key {key} is of the spec {spec}, and trust bundles list Ed25519 keys alone; make one with: aws kms create-key \
         --key-spec ECC_NIST_EDWARDS25519 --key-usage SIGN_VERIFY"
    )]
    Spec {
        /// Its ARN.
        key: String,
        /// As KMS tells.
        spec: String,
    },
}

/// A key of KMS.
#[derive(Debug)]
pub struct Key {
    client: Client,
    arn: String,
    /// Calls that may still begin.
    calls: Semaphore,
}

impl Key {
    /// Get ready to ask for that key; nobody is called.
    pub async fn open(settings: &Dispatch, arn: &str) -> Self {
        let place = Place {
            region: region(arn).unwrap_or_default(),
            endpoint_url: settings.endpoint_url.as_deref(),
            credentials_file: settings.credentials_file.as_deref(),
        };
        let client = Client::new(&place.config(3, limits::KMS_TRY).await);
        Self { client, arn: arn.to_owned(), calls: Semaphore::new(limits::KMS_CALLS) }
    }

    /// Its ARN.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Its public half.
    pub async fn public(&self) -> Result<PublicKey, Error> {
        let unreachable = |why: String| Error::Unreachable { key: self.arn.clone(), why };
        let asked = self.client.get_public_key().key_id(&self.arn).send().await;
        let told = asked.map_err(|error| unreachable(chain(&error.into_service_error()).to_string()))?;
        let of_spec = told.key_spec() == Some(&KeySpec::EccNistEdwards25519);
        let public = told.public_key().and_then(|der| PublicKey::from_spki(der.as_ref()));
        match public.filter(|_| of_spec) {
            Some(public) => Ok(public),
            None => {
                let spec = told.key_spec().map_or_else(|| "unknown".to_owned(), |spec| spec.as_str().to_owned());
                Err(Error::Spec { key: self.arn.clone(), spec })
            }
        }
    }

    /// Sign; what comes back is yet to be verified.
    pub(super) async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let _call = self.calls.acquire().await.map_err(|error| error.to_string())?;
        let call = self.client.sign().key_id(&self.arn).message(Blob::new(message));
        let call = call.message_type(MessageType::Raw).signing_algorithm(SigningAlgorithmSpec::Ed25519Sha512);
        let signed = call.send().await.map_err(|error| chain(&error.into_service_error()).to_string())?;
        signed.signature.map(Blob::into_inner).ok_or_else(|| "it answered without a signature".to_owned())
    }
}

/// The key that the configuration names, and its public half where KMS can be asked for it: a hub that has had the key signs
/// with it as soon as KMS is back.
pub async fn ask(settings: &Dispatch) -> Result<Option<OfKms>, Error> {
    let Some(arn) = &settings.kms_key else { return Ok(None) };
    let key = Key::open(settings, arn).await;
    match key.public().await {
        Ok(public) => Ok(Some((key, Some(public)))),
        Err(error @ Error::Unreachable { .. }) => {
            warn!(error = %chain(&error), "the dispatch key is not known by KMS itself");
            Ok(Some((key, None)))
        }
        Err(error) => Err(error),
    }
}

/// The region of a key's ARN; an alias may lead to another key one day, and is none.
pub(crate) fn region(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", _, "kms", region, account, key] = parts[..] else { return None };
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    (is_account && !region.is_empty() && key.strip_prefix("key/").is_some_and(|id| !id.is_empty())).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_own_arn() {
        assert_eq!(region("arn:aws:kms:eu-west-2:111111111111:key/mrk-1"), Some("eu-west-2"));
        for odd in [
            "arn:aws:kms:eu-west-2:111111111111:alias/dispatch",
            "arn:aws:sns:eu-west-2:111111111111:key/a",
            "key/a",
            "arn:aws:kms::111111111111:key/a",
            "arn:aws:kms:eu-west-2:1111:key/a",
        ] {
            assert_eq!(region(odd), None, "{odd}");
        }
    }
}
