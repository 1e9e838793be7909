//! The issuing CA: an ECDSA P-256 key and its certificate, by which every leaf of hub, agents and operators is signed.
//!
//! Of a request only the public key is used, once its signature shows that the asker holds the private half; the name
//! comes from the caller, who has it from a join token, an AWS identity or the certificate that is to be renewed.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
    SanType, SerialNumber, string::Ia5String,
};
use rustls::pki_types::CertificateDer;
use sfdata_common::{
    Timestamp, keyfile, keys, limits,
    peer::Subject,
    tls::{self, TlsKey},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// The CA's private key.
pub const KEY_FILE: &str = "ca.key";
/// The CA's certificate.
pub const CERTIFICATE_FILE: &str = "ca.crt";

/// A P-256 point, uncompressed (SEC 1, section 2.3.3): what a request must carry.
const POINT_BYTES: usize = 65;

/// Why the CA can't be used, or does not issue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of it.
    #[error(transparent)]
    File(#[from] keyfile::Error),
    /// A key.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The random generator.
    #[error(transparent)]
    Random(#[from] keys::Error),
    /// A file does not hold what it should.
    #[error("{path} holds no {what}; restore it from the hub's backup")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Two files that don't belong together.
    #[error("{key} is not the key of {certificate}; restore both from the same backup")]
    Mismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// The CA's time is over.
    #[error("the hub's CA certificate ended at {at}; a new CA has to be put into the next trust bundle")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// The request is not one.
    #[error("the certificate request is not valid: {0}")]
    Request(&'static str),
    /// A time outside of what X.509 can say.
    #[error("a certificate of {lifetime:?} from {now} can't be made")]
    Lifetime {
        /// Asked for.
        lifetime: Duration,
        /// From when.
        now: Timestamp,
    },
    /// The library.
    #[error("the certificate could not be signed")]
    Sign(#[source] rcgen::Error),
}

/// The files of the CA in use: key and certificate.
pub const CURRENT: [&str; 2] = [KEY_FILE, CERTIFICATE_FILE];
/// Those of the one that is to take its place.
pub const NEXT: [&str; 2] = ["ca-next.key", "ca-next.crt"];

/// The CA, ready to issue; another one may take its place at any time, for all who share it.
pub struct Authority {
    trust_domain: String,
    current: ArcSwap<Issuing>,
}

struct Issuing {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Authority {
    /// Make a new CA in `folder`, where there is none yet.
    pub fn create(folder: &Path, trust_domain: &str, now: Timestamp) -> Result<Self, Error> {
        Self::create_as(CURRENT, folder, trust_domain, now)
    }

    /// The same in other files.
    pub fn create_as(
        [key_file, certificate_file]: [&str; 2],
        folder: &Path,
        trust_domain: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let key_text = TlsKey::generate()?.to_pem();
        let key = KeyPair::from_pem(&key_text).map_err(Error::Sign)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("SFDATA Hub CA, {trust_domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial()?);
        (params.not_before, params.not_after) = {
            let (from, until) = validity(limits::CA_CERTIFICATE, now)?;
            (SystemTime::from(from).into(), SystemTime::from(until).into())
        };
        let certificate = params.self_signed(&key).map_err(Error::Sign)?.der().to_vec();
        keyfile::create_secret(&folder.join(key_file), &key_text)?;
        keyfile::write(&folder.join(certificate_file), tls::certificates_to_pem(&[certificate]).as_bytes())?;
        Self::open_as([key_file, certificate_file], folder, trust_domain)
    }

    /// Open the CA that lies in `folder`.
    pub fn open(folder: &Path, trust_domain: &str) -> Result<Self, Error> {
        Self::open_as(CURRENT, folder, trust_domain)
    }

    /// The same from other files.
    pub fn open_as([key_file, certificate_file]: [&str; 2], folder: &Path, trust_domain: &str) -> Result<Self, Error> {
        let (key_path, path) = (folder.join(key_file), folder.join(certificate_file));
        let key = KeyPair::from_pem(&keyfile::read_secret(&key_path)?)
            .ok()
            .filter(|key| key.algorithm() == &PKCS_ECDSA_P256_SHA256)
            .ok_or_else(|| Error::Invalid { path: key_path.clone(), what: "P-256 private key in PEM" })?;
        let invalid = || Error::Invalid { path: path.clone(), what: "CA certificate in PEM" };
        let text = keyfile::read(&path)?;
        let [certificate] = <[Vec<u8>; 1]>::try_from(tls::certificates_from_pem(&text).map_err(|_| invalid())?)
            .map_err(|_| invalid())?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| invalid())?;
        if !parsed.is_ca() {
            return Err(invalid());
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Error::Mismatch { key: key_path, certificate: path });
        }
        let time = |at: x509_parser::time::ASN1Time| Timestamp::from_second(at.timestamp()).map_err(|_| invalid());
        let (not_before, not_after) = (time(parsed.validity().not_before)?, time(parsed.validity().not_after)?);
        let der = CertificateDer::from(certificate.as_slice());
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|_| invalid())?;
        let current = ArcSwap::from_pointee(Issuing { issuer, certificate, not_before, not_after });
        Ok(Self { trust_domain: trust_domain.to_owned(), current })
    }

    /// Issue by that CA from now on, wherever this one is shared.
    pub fn becomes(&self, next: &Self) {
        self.current.store(next.current.load_full());
    }

    /// The CA's certificate, in DER.
    pub fn certificate(&self) -> Vec<u8> {
        self.current.load().certificate.clone()
    }

    /// First part of every name that it issues.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// End of the CA's certificate, and of all that it issues.
    pub fn not_after(&self) -> Timestamp {
        self.current.load().not_after
    }

    /// A leaf for `subject` with the request's public key, and the CA's certificate behind it, in DER.
    ///
    /// It serves as a client's certificate, the hub's own as a server's. It is valid for `lifetime` from `now`, never
    /// beyond the CA's own end, and somewhat backwards for clocks that run behind.
    pub fn issue(
        &self,
        request_der: &[u8],
        subject: &Subject,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let request = CertificateSigningRequestParams::from_der(&request_der.into())
            .map_err(|_| Error::Request("it can't be read, or its signature does not hold"))?;
        let key = &request.public_key;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != POINT_BYTES {
            return Err(Error::Request("its key is not an ECDSA key on P-256"));
        }
        let (from, until) = validity(lifetime, now)?;
        let ca = self.current.load();
        if ca.not_after <= now {
            return Err(Error::Expired { at: ca.not_after });
        }
        let uri = Ia5String::try_from(subject.uri(&self.trust_domain)).map_err(Error::Sign)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&subject.to_string());
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match subject {
            Subject::Hub(_) => ExtendedKeyUsagePurpose::ServerAuth,
            Subject::Agent(_) | Subject::Operator(_) => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before = SystemTime::from(from.max(ca.not_before)).into();
        params.not_after = SystemTime::from(until.min(ca.not_after)).into();
        let leaf = params.signed_by(key, &ca.issuer).map_err(Error::Sign)?;
        Ok(vec![leaf.der().to_vec(), ca.certificate.clone()])
    }
}

/// SHA-256 over the public key (SubjectPublicKeyInfo) of a certificate in DER.
pub fn key_digest(certificate_der: &[u8]) -> Result<[u8; 32], Error> {
    let parsed = X509Certificate::from_der(certificate_der);
    let (_, parsed) = parsed.map_err(|_| Error::Request("its certificate can't be read"))?;
    Ok(keys::sha256(parsed.public_key().raw))
}

fn validity(lifetime: Duration, now: Timestamp) -> Result<(Timestamp, Timestamp), Error> {
    let invalid = |_| Error::Lifetime { lifetime, now };
    let from = now.checked_sub(limits::CERTIFICATE_BACKDATE).map_err(invalid)?;
    Ok((from, now.checked_add(lifetime).map_err(invalid)?))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// 126 random bits, positive and of full length (RFC 5280, section 4.1.2.2).
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = keys::random::<16>()?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use rcgen::PKCS_ECDSA_P384_SHA384;
    use sfdata_common::peer::Peer;

    use super::*;

    /// From openssl: a P-384 key whose request is signed with ECDSA and SHA-256, as ours on P-256 are.
    const P384_SHA256: &str = "\
        3081f6307f02010030003076301006072a8648ce3d020106052b8104002203620004233d7d391bdf293f4ea73ec44cd28b9a\
        1fecfadfae387fd0218e268329e4a2c59b863f02ac4d209ca3f9a78837dc702f87aecc4c70388cfd6abb913c346b4a1fe6c0\
        acf0ea8f0e909080af6e501f14803f572ac9dfd48f1541e8d7f1cf285ec8a000300a06082a8648ce3d040302036700306402\
        306883430f2a36567afd51823eda7061da3b5801a4b451cd9371bd667040cd01f89766e2c73a89e7b92b9ca7b5eb25560d02\
        3037e079ff61a16477884f3d550a7592acc07ee795db7c67bb941456e112a7a49a7fd32d4c7e9e306a0a49fac638f9bad9";

    fn authority(now: Timestamp) -> (tempfile::TempDir, Authority) {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path(), "sfdata.example", now).unwrap();
        (folder, authority)
    }

    fn seconds(at: i64) -> Timestamp {
        Timestamp::from_second(at).unwrap()
    }

    #[test]
    fn a_leaf_has_the_callers_name_and_the_requests_key_and_ends_with_the_ca_at_the_latest() {
        let (_folder, authority) = authority(seconds(1_000_000));
        let camden = Subject::Agent("camden".parse().unwrap());
        let key = TlsKey::generate().unwrap();
        let request = key.request().unwrap();
        let hour = Duration::from_secs(3600);
        let chain = authority.issue(&request, &camden, hour, seconds(2_000_000)).unwrap();
        let peer = Peer::from_certificate(&chain[0]).unwrap();
        assert_eq!((peer.trust_domain.as_str(), &peer.subject), ("sfdata.example", &camden));
        assert_eq!((peer.not_before, peer.not_after), (seconds(1_999_700), seconds(2_003_600)));
        assert_eq!(chain[1], authority.certificate());

        let last = authority.issue(&request, &camden, hour, authority.not_after() - hour / 2).unwrap();
        assert_eq!(Peer::from_certificate(&last[0]).unwrap().not_after, authority.not_after());
        let late = authority.issue(&request, &camden, hour, authority.not_after());
        assert!(matches!(late, Err(Error::Expired { .. })));

        let serial = |der: &[u8]| X509Certificate::from_der(der).unwrap().1.raw_serial().to_vec();
        let again = authority.issue(&request, &camden, hour, seconds(2_000_000)).unwrap();
        assert_ne!(serial(&chain[0]), serial(&again[0]));
        assert_eq!(serial(&chain[0]).len(), 16);
    }

    #[test]
    fn what_the_request_asks_for_beside_its_key_is_ignored() {
        let (_folder, authority) = authority(Timestamp::now());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut greedy = CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let request = greedy.serialize_request(&key).unwrap();
        let subject = Subject::Operator("alice".parse().unwrap());
        let chain = authority.issue(request.der(), &subject, Duration::from_secs(60), Timestamp::now()).unwrap();
        let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
        assert!(!leaf.is_ca());
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
        assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
    }

    #[test]
    fn a_request_that_is_forged_or_of_another_curve_is_refused() {
        let (_folder, authority) = authority(Timestamp::now());
        let issue = |request: &[u8]| {
            authority.issue(request, &Subject::Hub("core".into()), Duration::from_secs(60), Timestamp::now())
        };
        let request = TlsKey::generate().unwrap().request().unwrap();
        assert!(issue(&request).is_ok());
        let other = TlsKey::generate().unwrap().request().unwrap();
        // Another's signature under this key.
        let mut forged = request.clone();
        let length = forged.len();
        forged[length - 8..].copy_from_slice(&other[other.len() - 8..]);
        assert!(matches!(issue(&forged), Err(Error::Request(_))));
        assert!(matches!(issue(&request[..length - 1]), Err(Error::Request(_))));
        assert!(matches!(issue(&[]), Err(Error::Request(_))));
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let request = CertificateParams::default().serialize_request(&p384).unwrap();
        assert!(matches!(issue(request.der()), Err(Error::Request(_))));
        let refused = issue(&hex::decode(P384_SHA256).unwrap()).unwrap_err().to_string();
        assert!(refused.contains("P-256"), "{refused}");
    }

    #[test]
    fn a_ca_survives_its_files_and_foreign_ones_are_seen() {
        let (folder, made) = authority(Timestamp::now());
        let opened = Authority::open(folder.path(), "sfdata.example").unwrap();
        assert_eq!(opened.certificate(), made.certificate());
        let again = Authority::create(folder.path(), "sfdata.example", Timestamp::now());
        assert!(matches!(again, Err(Error::File(keyfile::Error::Exists { .. }))));

        let (other, _) = authority(Timestamp::now());
        std::fs::copy(other.path().join(CERTIFICATE_FILE), folder.path().join(CERTIFICATE_FILE)).unwrap();
        assert!(matches!(Authority::open(folder.path(), "sfdata.example"), Err(Error::Mismatch { .. })));
        std::fs::write(folder.path().join(CERTIFICATE_FILE), "nothing").unwrap();
        assert!(matches!(Authority::open(folder.path(), "sfdata.example"), Err(Error::Invalid { .. })));
    }
}
