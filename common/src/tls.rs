//! TLS 1.3 with certificates on both sides, by one provider (aws-lc-rs), without session resumption:
//! a resumed session would not check the certificate anew.
//!
//! Clients know their hub by the chain and its SPIFFE name, not by a DNS name; the enrolment client knows it by the
//! pin of its CA. Configurations are made anew whenever an identity or the roots change.

use std::{path::Path, sync::Arc};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
};

use crate::{
    keyfile,
    keys::sha256,
    peer::{Peer, Subject},
};

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key or certificate file.
    #[error(transparent)]
    File(#[from] keyfile::Error),
    /// Contents of a key or certificate.
    #[error("{what} is not valid")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn invalid(what: &'static str) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Error {
    move |source| Error::Invalid { what, source }
}

/// A P-256 key for TLS, which never leaves its owner.
pub struct TlsKey(KeyPair);

impl TlsKey {
    /// A new random key.
    pub fn generate() -> Result<Self, Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(|e| invalid("a new TLS key")(e.into()))
    }

    /// From PEM text.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        KeyPair::from_pem(text).map(Self).map_err(|e| invalid("the TLS key")(e.into()))
    }

    /// Read a key file; refused when others may read it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::from_pem(&keyfile::read_secret(path)?)
    }

    /// PEM text, to be kept in a file of mode 0600.
    pub fn to_pem(&self) -> zeroize::Zeroizing<String> {
        self.0.serialize_pem().into()
    }

    /// A certificate request in DER. The issuer takes nothing from it but the public key.
    pub fn request(&self) -> Result<Vec<u8>, Error> {
        let request = CertificateParams::default()
            .serialize_request(&self.0)
            .map_err(|e| invalid("a certificate request")(e.into()))?;
        Ok(request.der().to_vec())
    }
}

/// A certificate chain, leaf first, with the leaf's key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    peer: Peer,
}

impl Identity {
    /// Put a chain and its key together.
    pub fn new(chain: Vec<Vec<u8>>, key: &TlsKey) -> Result<Self, Error> {
        let leaf = chain.first().map(Vec::as_slice).unwrap_or_default();
        let peer = Peer::from_certificate(leaf).map_err(|e| invalid("the certificate")(e.into()))?;
        Ok(Self {
            chain: chain.into_iter().map(CertificateDer::from).collect(),
            key: PrivatePkcs8KeyDer::from(key.0.serialize_der()).into(),
            peer,
        })
    }

    /// Whom it names and until when.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// Certificates as PEM text.
pub fn certificates_to_pem(chain: &[Vec<u8>]) -> String {
    pem::encode_many(&chain.iter().map(|der| pem::Pem::new("CERTIFICATE", der.clone())).collect::<Vec<_>>())
}

/// Certificates of a PEM text, in DER.
pub fn certificates_from_pem(text: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let blocks = pem::parse_many(text).map_err(|e| invalid("the certificate file")(e.into()))?;
    Ok(blocks.into_iter().map(pem::Pem::into_contents).collect())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(certificates: &[Vec<u8>]) -> Result<Arc<RootCertStore>, Error> {
    let mut store = RootCertStore::empty();
    for der in certificates {
        store
            .add(CertificateDer::from(der.as_slice()).into_owned())
            .map_err(|e| invalid("a CA certificate")(e.into()))?;
    }
    Ok(Arc::new(store))
}

/// Server side. `client_roots`: who issues the clients' certificates; without them no certificate is asked for.
pub fn server(identity: &Identity, client_roots: Option<&[Vec<u8>]>) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| invalid("TLS 1.3")(e.into()))?;
    let builder = match client_roots {
        Some(certificates) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(certificates)?, provider())
                .build()
                .map_err(|e| invalid("the set of client CAs")(e.into()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(|e| invalid("the server's certificate")(e.into()))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// What a client knows of its hub.
pub enum Knows<'a> {
    /// The CAs that issue its certificate, and the trust domain.
    Cas {
        /// In DER.
        certificates: &'a [Vec<u8>],
        /// Must be that of the hub's name.
        trust_domain: &'a str,
    },
    /// SHA-256 of its CA's certificate, from a join token.
    Pin {
        /// 32 bytes.
        ca: &'a [u8],
        /// Must be that of the hub's name.
        trust_domain: &'a str,
    },
}

/// Client side, with a certificate of its own or, to enrol, without one.
pub fn client(identity: Option<&Identity>, hub: Knows<'_>) -> Result<Arc<ClientConfig>, Error> {
    let (anchor, trust_domain) = match hub {
        Knows::Cas { certificates, trust_domain } => (Anchor::Roots(roots(certificates)?), trust_domain),
        Knows::Pin { ca, trust_domain } => (Anchor::Pin(ca.to_vec()), trust_domain),
    };
    let verifier = HubVerifier { anchor, trust_domain: trust_domain.to_owned(), provider: provider() };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| invalid("TLS 1.3")(e.into()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|e| invalid("the client's certificate")(e.into()))?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug)]
enum Anchor {
    Roots(Arc<RootCertStore>),
    Pin(Vec<u8>),
}

/// Accepts a chain to the anchor whose leaf names a hub of the trust domain.
#[derive(Debug)]
struct HubVerifier {
    anchor: Anchor,
    trust_domain: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let roots = match &self.anchor {
            Anchor::Roots(roots) => Arc::clone(roots),
            Anchor::Pin(pin) => {
                let pinned = intermediates.iter().find(|der| sha256(der).as_slice() == pin.as_slice());
                let pinned = pinned.ok_or(TlsError::InvalidCertificate(CertificateError::UnknownIssuer))?;
                let mut store = RootCertStore::empty();
                store.add(pinned.clone().into_owned())?;
                Arc::new(store)
            }
        };
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, algorithms)?;
        match Peer::from_certificate(end_entity) {
            Ok(Peer { trust_domain, subject: Subject::Hub(_), .. }) if trust_domain == self.trust_domain => {
                Ok(ServerCertVerified::assertion())
            }
            _ => Err(TlsError::InvalidCertificate(CertificateError::NotValidForName)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
