//! A signed envelope as text: the JSON form of DSSE (secure-systems-lab/dsse, envelope.md).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use sfdata_proto::v1 as wire;

/// An envelope, as DSSE writes it in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dsse {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<DsseSignature>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DsseSignature {
    keyid: String,
    sig: String,
}

impl Dsse {
    /// Of an envelope.
    pub(crate) fn of(envelope: &wire::Envelope) -> Self {
        let signature = |signature: &wire::Signature| DsseSignature {
            keyid: signature.key_id.clone(),
            sig: BASE64_STANDARD.encode(&signature.signature),
        };
        Self {
            payload_type: envelope.payload_type.clone(),
            payload: BASE64_STANDARD.encode(&envelope.payload),
            signatures: envelope.signatures.iter().map(signature).collect(),
        }
    }

    /// The envelope that it stands for.
    pub(crate) fn envelope(&self) -> anyhow::Result<wire::Envelope> {
        let signature = |signature: &DsseSignature| {
            let bytes = BASE64_STANDARD.decode(&signature.sig)?;
            anyhow::Ok(wire::Signature { key_id: signature.keyid.clone(), signature: bytes.into() })
        };
        Ok(wire::Envelope {
            payload_type: self.payload_type.clone(),
            payload: BASE64_STANDARD.decode(&self.payload)?.into(),
            signatures: self.signatures.iter().map(signature).collect::<Result<_, _>>()?,
        })
    }
}
