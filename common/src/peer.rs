//! Who is at the other end: read from the certificate alone, never from a message or metadata.
//!
//! A leaf carries exactly one URI SAN, SPIFFE-style (SPIFFE-ID, section 2):
//! `spiffe://<trust domain>/hub/<id>`, `/agent/<agent id>` or `/operator/<name>`.

use std::fmt;

use jiff::Timestamp;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use crate::ids::{AgentId, OperatorName};

/// The identity in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A hub.
    Hub(String),
    /// An agent.
    Agent(AgentId),
    /// An operator.
    Operator(OperatorName),
}

impl Subject {
    /// The URI that goes into the certificate.
    pub fn uri(&self, trust_domain: &str) -> String {
        format!("spiffe://{trust_domain}/{self}")
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(id) => write!(f, "hub/{id}"),
            Self::Agent(id) => write!(f, "agent/{id}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
        }
    }
}

/// A peer that showed a valid certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Organisation.
    pub trust_domain: String,
    /// Who.
    pub subject: Subject,
    /// Start of the certificate's validity.
    pub not_before: Timestamp,
    /// End of the certificate's validity, after which its sessions end.
    pub not_after: Timestamp,
}

/// The certificate names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the certificate names no hub, agent or operator (one URI SAN as in spiffe://domain/agent/name)")]
pub struct Nameless;

impl Peer {
    /// Read the identity of a leaf in DER whose chain was verified.
    pub fn from_certificate(der: &[u8]) -> Result<Self, Nameless> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Nameless)?;
        let names = certificate.subject_alternative_name().map_err(|_| Nameless)?.ok_or(Nameless)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let uri = uris.next().ok_or(Nameless)?;
        if uris.next().is_some() {
            return Err(Nameless);
        }
        let mut parts = uri.strip_prefix("spiffe://").ok_or(Nameless)?.split('/');
        let (trust_domain, kind, name) = (parts.next(), parts.next(), parts.next());
        let (Some(trust_domain), Some(kind), Some(name), None) = (trust_domain, kind, name, parts.next()) else {
            return Err(Nameless);
        };
        let subject = match kind {
            "hub" => Subject::Hub(name.to_owned()),
            "agent" => Subject::Agent(name.parse().map_err(|_| Nameless)?),
            "operator" => Subject::Operator(name.parse().map_err(|_| Nameless)?),
            _ => return Err(Nameless),
        };
        let time = |at: x509_parser::time::ASN1Time| Timestamp::from_second(at.timestamp()).map_err(|_| Nameless);
        Ok(Self {
            trust_domain: trust_domain.to_owned(),
            subject,
            not_before: time(certificate.validity().not_before)?,
            not_after: time(certificate.validity().not_after)?,
        })
    }
}
