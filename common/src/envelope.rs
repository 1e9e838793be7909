//! Signed bytes: DSSE envelopes (secure-systems-lab/dsse, protocol.md), verified before they are parsed.
//!
//! A signature covers the pre-authentication encoding of payload type and payload, so that bytes signed as
//! one kind of message never pass for another.

use bytes::Bytes;
use sfdata_proto::v1 as wire;

use crate::keys::{PublicKey, SigningKey};

/// The bytes that are signed: `DSSEv1 <length> <type> <length> <payload>`.
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload_type.len() + payload.len() + 40);
    out.extend_from_slice(b"DSSEv1 ");
    out.extend_from_slice(payload_type.len().to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(payload_type.as_bytes());
    out.push(b' ');
    out.extend_from_slice(payload.len().to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(payload);
    out
}

/// Sign `payload` as `payload_type`.
pub fn seal(payload_type: &str, payload: impl Into<Bytes>, key: &SigningKey) -> wire::Envelope {
    let mut envelope =
        wire::Envelope { payload_type: payload_type.to_owned(), payload: payload.into(), signatures: Vec::new() };
    add_signature(&mut envelope, key);
    envelope
}

/// An envelope around a payload that somebody else has signed, with the key of that id.
pub fn signed(payload_type: &str, payload: impl Into<Bytes>, key_id: &str, signature: Vec<u8>) -> wire::Envelope {
    let signature = wire::Signature { key_id: key_id.to_owned(), signature: signature.into() };
    wire::Envelope { payload_type: payload_type.to_owned(), payload: payload.into(), signatures: vec![signature] }
}

/// Add a signature to those that are there; a second one of the same key replaces the first.
pub fn add_signature(envelope: &mut wire::Envelope, key: &SigningKey) {
    let signed = pre_authentication_encoding(&envelope.payload_type, &envelope.payload);
    envelope.signatures.retain(|signature| signature.key_id != key.id());
    envelope.signatures.push(wire::Signature { key_id: key.id().to_owned(), signature: key.sign(&signed).into() });
}

/// Whether the envelope is of that type and `key` signed it.
pub fn is_signed_by(envelope: &wire::Envelope, payload_type: &str, key: &PublicKey) -> bool {
    count_signers(envelope, payload_type, std::slice::from_ref(key)) == 1
}

/// How many different ones of `keys` signed the envelope as `payload_type`.
pub fn count_signers(envelope: &wire::Envelope, payload_type: &str, keys: &[PublicKey]) -> usize {
    if envelope.payload_type != payload_type {
        return 0;
    }
    let signed = pre_authentication_encoding(payload_type, &envelope.payload);
    let mut unique: Vec<&PublicKey> = keys.iter().collect();
    unique.sort();
    unique.dedup();
    unique
        .into_iter()
        .filter(|key| {
            let id = key.id();
            let mut of_key = envelope.signatures.iter().filter(|signature| signature.key_id == id);
            // One try a key: a flood of signatures under one id costs one verification.
            of_key.next().is_some_and(|signature| key.verifies(&signed, &signature.signature))
        })
        .count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        // Test vector of the DSSE specification.
        assert_eq!(
            pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn the_same_key_counts_once() {
        let key = SigningKey::generate().unwrap();
        let mut envelope = seal("t", &b"payload"[..], &key);
        envelope.signatures.push(envelope.signatures[0].clone());
        assert_eq!(count_signers(&envelope, "t", &[key.public(), key.public()]), 1);
        assert!(!is_signed_by(&envelope, "u", &key.public()));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_seen(payload in proptest::collection::vec(any::<u8>(), 1..80), at: usize) {
            let key = SigningKey::generate().unwrap();
            let mut envelope = seal("t", payload.clone(), &key);
            let mut flipped = payload;
            let bit = at % (flipped.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(is_signed_by(&envelope, "t", &key.public()));
            envelope.payload = flipped.into();
            prop_assert!(!is_signed_by(&envelope, "t", &key.public()));
        }
    }
}
