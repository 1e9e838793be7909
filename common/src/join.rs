//! Join tokens: what an invitation hands to a new agent or operator, so that neither trusts on first use.
//!
//! The text carries the pins of the hub's CA and of the root keys beside a secret that the hub knows by its
//! digest alone.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message as _;
use sfdata_proto::v1 as wire;
pub use wire::{JoinToken, join_token::Subject};

const PREFIX: &str = "sfjoin_";

/// The text is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is not a whole join token; it begins with sfjoin_ and was printed on one line by the invitation")]
pub struct Invalid;

/// A token as one line of text.
pub fn encode(token: &JoinToken) -> impl fmt::Display + use<> {
    format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(token.encode_to_vec()))
}

/// Read a token's text.
pub fn decode(text: &str) -> Result<JoinToken, Invalid> {
    let bytes = text.trim().strip_prefix(PREFIX).and_then(|rest| BASE64_URL_SAFE_NO_PAD.decode(rest).ok());
    let token = JoinToken::decode(&bytes.ok_or(Invalid)?[..]).map_err(|_| Invalid)?;
    let whole = token.secret.len() == 32 && token.ca_pin.len() == 32 && token.subject.is_some();
    if whole { Ok(token) } else { Err(Invalid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_a_cut_one_is_seen() {
        let token = JoinToken {
            secret: vec![7; 32].into(),
            ca_pin: vec![8; 32].into(),
            subject: Some(Subject::Operator(wire::OperatorSubject { name: "alice".into() })),
            ..Default::default()
        };
        let text = encode(&token).to_string();
        assert_eq!(decode(&format!(" {text}\n")).unwrap(), token);
        for cut in 0..text.len() {
            assert_eq!(decode(&text[..cut]), Err(Invalid));
        }
    }
}
