//! The hub's dispatch key, wherever it is: in a file of its folder, or in AWS KMS, which it never leaves.
//!
//! Signing may take a while, or fail while KMS is away; whoever asks waits, and asks again. Invariant: no signature leaves
//! the hub that its public key does not verify, whoever made it.

pub mod kms;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use sfdata_common::{
    envelope,
    keys::{PublicKey, SigningKey},
};
use sfdata_proto::v1 as wire;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::metrics::Metrics;

/// One signature takes some 10 ms; with the SDK's three tries it ends within this, one way or the other.
const SIGN: Duration = Duration::from_secs(5);

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KMS did not sign.
    #[error("KMS does not sign with the dispatch key {key}: {why}")]
    Away {
        /// Its ARN.
        key: String,
        /// What KMS said.
        why: String,
    },
    /// KMS signed something else, or with another key.
    #[error("what KMS gave for the dispatch key {key} is not its signature; nothing is sent that agents would refuse")]
    Wrong {
        /// Its ARN.
        key: String,
    },
}

enum Way {
    File(SigningKey),
    Kms(kms::Key),
}

/// The signer that is used now, wherever it is asked for; another one may take its place at any time.
pub type SharedSigner = Arc<ArcSwap<Signer>>;

/// A key that can sign for the hub.
pub struct Signer {
    public: PublicKey,
    id: String,
    way: Way,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.id)
    }
}

impl From<SigningKey> for Signer {
    fn from(key: SigningKey) -> Self {
        Self { public: key.public(), id: key.id().to_owned(), way: Way::File(key) }
    }
}

impl Signer {
    /// A key of KMS with this public half.
    pub fn kms(key: kms::Key, public: PublicKey) -> Self {
        Self { public, id: public.id(), way: Way::Kms(key) }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Where the private half is, in words.
    pub fn place(&self) -> String {
        match &self.way {
            Way::File(_) => "a file".to_owned(),
            Way::Kms(key) => key.arn().to_owned(),
        }
    }

    /// Whether it signs now: asked before something is used up that is of no use without a signature.
    pub async fn ready(&self, metrics: &Metrics) -> Result<(), Error> {
        match &self.way {
            Way::File(_) => Ok(()),
            Way::Kms(_) => self.seal("application/vnd.sfdata.nothing", Vec::new(), metrics).await.map(|_| ()),
        }
    }

    /// Sign `payload` as `payload_type`. Bounded in time; an error changes nothing, and may be gone at the next try.
    pub async fn seal(&self, payload_type: &str, payload: Vec<u8>, metrics: &Metrics) -> Result<wire::Envelope, Error> {
        let key = match &self.way {
            Way::File(key) => return Ok(envelope::seal(payload_type, payload, key)),
            Way::Kms(key) => key,
        };
        let signed = envelope::pre_authentication_encoding(payload_type, &payload);
        let began = Instant::now();
        let signature = timeout(SIGN, key.sign(&signed)).await;
        metrics.kms_seconds.observe(began.elapsed().as_secs_f64());
        let signature = signature.unwrap_or_else(|_| Err(format!("no answer within {} s", SIGN.as_secs())));
        let arn = || key.arn().to_owned();
        let result = match signature {
            Ok(signature) if self.public.verifies(&signed, &signature) => Ok(signature),
            Ok(_) => Err(("wrong", Error::Wrong { key: arn() })),
            Err(why) => Err(("failed", Error::Away { key: arn(), why })),
        };
        metrics.signer_failing.set(result.is_err().into());
        match result {
            Ok(signature) => {
                metrics.kms_signatures.inc("ok");
                Ok(envelope::signed(payload_type, payload, &self.id, signature))
            }
            Err((word, error)) => {
                metrics.kms_signatures.inc(word);
                warn!(%error, "nothing is dispatched until it is signed; it is tried again");
                Err(error)
            }
        }
    }
}
