//! What hub and agent of a release said to each other, as the repository keeps it: the descriptors of its messages in
//! `tests/releases/VERSION.binpb`, and a session that a [`crate::relay`] heard in `tests/releases/VERSION/session.txt`.
//!
//! Messages are read and written by the descriptors of their release and never by the types of this tree: what is said again
//! has the fields that the old program wrote, and of what this tree says nothing is seen but what the old program knew. What
//! holds for one day alone (times, ids, digests, keys) is changed before it is said, and what was signed is signed anew.
//!
//! In the file, messages are protobuf's text format. What stands in an envelope follows its message as a message of its own,
//! and takes its place in it when it is read.

mod message;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ReflectMessage as _, Value,
    text_format::FormatOptions,
};
use sfdata_common::{
    Timestamp,
    envelope::pre_authentication_encoding,
    keys::{PublicKey, SigningKey},
};

pub use self::message::{blob, blobs, essence, fields, get, number, set, text};
use self::message::{choice, choices, envelopes, inside, is_known, walk};

/// The stream that an agent holds.
pub const LINK: &str = "/sfdata.v1.LinkService/Connect";
/// Joining by a token.
pub const ENROL: &str = "/sfdata.v1.EnrolService/Enrol";
/// A younger certificate.
pub const RENEW: &str = "/sfdata.v1.RenewalService/Renew";

/// What agents call.
pub const SERVICES: [&str; 3] = ["LinkService", "EnrolService", "RenewalService"];
/// What agents, hubs, operators and root keys sign for each other: the word in the envelope's type, and the message.
const SIGNED: [(&str, &str); 7] = [
    ("trust-bundle", "TrustBundle"),
    ("command", "Command"),
    ("dispatch", "Dispatch"),
    ("receipt", "Receipt"),
    ("receipt-key", "ReceiptKey"),
    ("joined", "Joined"),
    ("epoch", "EpochStatement"),
];
/// Good for one join, so it has no place in a repository; whoever says it again needs their own.
const LEFT_OUT: [(&str, &str); 2] = [("EnrolRequest", "secret"), ("EnrolAwsRequest", "signed_request")];

/// One release.
pub struct Release {
    /// As `0.1.0`.
    pub version: String,
    pool: DescriptorPool,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The agent.
    Agent,
    /// Its hub.
    Hub,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Hub => "hub",
        }
    }
}

/// One message.
#[derive(Clone, PartialEq)]
pub struct Said {
    /// By whom.
    pub by: Side,
    /// `/package.Service/Method`.
    pub method: String,
    /// All but what its envelopes hold.
    pub message: DynamicMessage,
    /// What its envelopes hold, by their places in it.
    pub signed: BTreeMap<String, DynamicMessage>,
}

/// What is not as it was.
#[derive(Debug, Default, Clone)]
pub struct Changes {
    /// Added to every moment.
    pub later_ms: i64,
    /// Ids and names.
    pub texts: HashMap<String, String>,
    /// Digests, keys and certificates.
    pub bytes: HashMap<Bytes, Bytes>,
}

impl Changes {
    /// What was said at `moment` is said now.
    pub fn now_is(&mut self, moment: &Value) {
        self.later_ms = Timestamp::now().as_millisecond() - moment.as_i64().expect("a moment");
    }

    /// Make them.
    pub fn make(&self, message: &mut DynamicMessage) {
        walk(message, &mut |field, value| match value {
            Value::I64(moment) if field.name().ends_with("_unix_ms") && *moment != 0 => *moment += self.later_ms,
            Value::String(text) => {
                if let Some(other) = self.texts.get(text) {
                    text.clone_from(other);
                }
            }
            Value::Bytes(bytes) => {
                if let Some(other) = self.bytes.get(bytes) {
                    bytes.clone_from(other);
                }
            }
            _ => {}
        });
    }
}

impl Release {
    /// All that are kept, the newest last.
    pub fn kept() -> Result<Vec<Self>> {
        let mut releases = Vec::new();
        for entry in fs::read_dir(folder())? {
            if let Some(version) = entry?.file_name().to_str().and_then(|name| name.strip_suffix(".binpb")) {
                releases.push(Self::open(version)?);
            }
        }
        releases.sort_by_key(|release| {
            release.version.split('.').map(|part| part.parse().ok()).collect::<Vec<Option<u32>>>()
        });
        Ok(releases)
    }

    /// One of them.
    pub fn open(version: &str) -> Result<Self> {
        let path = folder().join(format!("{version}.binpb"));
        let bytes = fs::read(&path).with_context(|| format!("no descriptors: {}", path.display()))?;
        Ok(Self { version: version.to_owned(), pool: DescriptorPool::decode(&bytes[..])? })
    }

    fn file(&self) -> PathBuf {
        folder().join(&self.version).join("session.txt")
    }

    /// What messages of this name are made of.
    pub fn message(&self, name: &str) -> Result<MessageDescriptor> {
        let found = self.pool.get_message_by_name(&format!("sfdata.v1.{name}"));
        found.with_context(|| format!("release {} has no message {name}", self.version))
    }

    fn methods(&self) -> impl Iterator<Item = MethodDescriptor> {
        let services = self.pool.services().filter(|service| SERVICES.contains(&service.name()));
        services.flat_map(|service| service.methods().collect::<Vec<_>>())
    }

    fn of(&self, by: Side, method: &str) -> Result<MessageDescriptor> {
        let path = |found: &MethodDescriptor| format!("/{}/{}", found.parent_service().full_name(), found.name());
        let found = self.methods().find(|found| path(found) == method);
        let found = found.with_context(|| format!("release {} has no method {method}", self.version))?;
        Ok(if by == Side::Agent { found.input() } else { found.output() })
    }

    /// What stands in an envelope of this type.
    fn payload(&self, payload_type: &str) -> Result<MessageDescriptor> {
        let word =
            payload_type.strip_prefix("application/vnd.sfdata.").and_then(|rest| rest.strip_suffix(".v1+protobuf"));
        let known = SIGNED.iter().find(|(of, _)| Some(*of) == word);
        self.message(known.with_context(|| format!("envelopes of an unknown type: {payload_type}"))?.1)
    }

    /// Read what came, as a program of this release does.
    pub fn read(&self, by: Side, method: &str, bytes: &[u8]) -> Result<Said> {
        let message = DynamicMessage::decode(self.of(by, method)?, bytes)?;
        let mut signed = BTreeMap::new();
        for (place, payload_type) in envelopes(&message) {
            let payload = blob(&message, &format!("{place}.payload"));
            signed.insert(place, DynamicMessage::decode(self.payload(&payload_type)?, payload)?);
        }
        Ok(Said { by, method: method.to_owned(), message, signed })
    }

    /// The recorded session.
    pub fn session(&self) -> Result<Vec<Said>> {
        let path = self.file();
        let text = fs::read_to_string(&path).with_context(|| format!("no session: {}", path.display()))?;
        let mut session: Vec<Said> = Vec::new();
        // What stands before the first message is for people.
        for part in text.split("\n=== ").skip(1) {
            let mut sections = part.split("\n--- ");
            let (head, body) =
                sections.next().and_then(|first| first.split_once('\n')).context("a message without a body")?;
            let (by, method) = head.split_once(' ').context("nobody says it")?;
            let by = if by == Side::Agent.word() { Side::Agent } else { Side::Hub };
            let message = DynamicMessage::parse_text_format(self.of(by, method)?, body)?;
            let types: HashMap<String, String> = envelopes(&message).into_iter().collect();
            let mut signed = BTreeMap::new();
            for section in sections {
                let (place, body) = section.split_once('\n').unwrap_or((section, ""));
                let payload_type = types.get(place).with_context(|| format!("no envelope at {place}"))?;
                signed.insert(place.to_owned(), DynamicMessage::parse_text_format(self.payload(payload_type)?, body)?);
            }
            session.push(Said { by, method: method.to_owned(), message, signed });
        }
        Ok(session)
    }

    /// Keep a session, and what is told of it; it has to be the same when it is read again.
    pub fn keep(&self, about: &str, mut session: Vec<Said>) -> Result<()> {
        let mut text = format!("{about}\n");
        for said in &mut session {
            // Signatures hold for the recorded bytes alone, which are signed anew.
            for place in said.signed.keys() {
                for field in ["payload", "signatures"] {
                    inside(&mut said.message, place).clear_field_by_name(field);
                }
            }
            for (name, field) in LEFT_OUT {
                if said.message.descriptor().name() == name {
                    said.message.clear_field_by_name(field);
                }
            }
            text += &format!("\n=== {} {}\n{}\n", said.by.word(), said.method, pretty(&said.message));
            for (place, signed) in &said.signed {
                text += &format!("--- {place}\n{}\n", pretty(signed));
            }
        }
        let path = self.file();
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(&path, text)?;
        ensure!(self.session()? == session, "{} does not read as it was written", path.display());
        Ok(())
    }

    /// Every kind of message that this release has: methods, what is signed, and the choices in all of these.
    pub fn kinds(&self) -> Result<BTreeSet<String>> {
        let mut kinds: BTreeSet<String> = self.methods().map(|method| method_kind(method.full_name())).collect();
        kinds.extend(SIGNED.map(|(_, name)| signed_kind(name)));
        let mut open: Vec<MessageDescriptor> =
            self.methods().flat_map(|method| [method.input(), method.output()]).collect();
        for (_, name) in SIGNED {
            open.push(self.message(name)?);
        }
        let mut seen = BTreeSet::new();
        while let Some(message) = open.pop() {
            if seen.insert(message.full_name().to_owned()) {
                kinds.extend(message.fields().filter_map(|field| choice(&field)));
                open.extend(message.fields().filter_map(|field| field.kind().as_message().cloned()));
            }
        }
        Ok(kinds)
    }
}

impl fmt::Debug for Said {
    /// As text; a message's own way shows all of its descriptors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.by.word(), self.method, self.message)?;
        self.signed.iter().try_for_each(|(place, signed)| write!(f, "\n{place}: {signed}"))
    }
}

impl Said {
    /// The field that is chosen of a stream's message; empty when it is none that this release knows.
    pub fn kind(&self) -> String {
        self.message.fields().next().map(|(field, _)| field.name().to_owned()).unwrap_or_default()
    }

    /// What its envelope at `place` holds.
    pub fn at(&self, place: &str) -> &DynamicMessage {
        self.signed.get(place).unwrap_or_else(|| panic!("nothing signed at {place}: {self:?}"))
    }

    /// The same on another day.
    pub fn with(&self, changes: &Changes) -> Self {
        let mut said = self.clone();
        changes.make(&mut said.message);
        said.signed.values_mut().for_each(|signed| changes.make(signed));
        said
    }

    /// Sign the envelope at `place`, over what it holds.
    pub fn sign(&mut self, place: &str, keys: &[&SigningKey]) {
        let payload = self.at(place).encode_to_vec();
        let envelope = inside(&mut self.message, place);
        let payload_type = text(envelope, "payload_type").to_owned();
        let field = envelope.descriptor().get_field_by_name("signatures").expect("envelopes have signatures");
        let signature = |key: &&SigningKey| {
            let kind = field.kind().as_message().expect("a message").clone();
            let mut signature = DynamicMessage::new(kind);
            let signed = key.sign(&pre_authentication_encoding(&payload_type, &payload));
            set(&mut signature, "key_id", Value::String(key.id().to_owned()));
            set(&mut signature, "signature", Value::Bytes(signed.into()));
            Value::Message(signature)
        };
        let signatures = Value::List(keys.iter().map(signature).collect());
        set(envelope, "signatures", signatures);
        set(envelope, "payload", Value::Bytes(payload.into()));
    }

    /// Whether this key has signed the envelope at `place`.
    pub fn holds(&self, place: &str, key: &PublicKey) -> bool {
        let Some(Value::Message(envelope)) = get(&self.message, place) else { return false };
        let signed = pre_authentication_encoding(text(envelope, "payload_type"), &blob(envelope, "payload"));
        let signatures = get(envelope, "signatures").and_then(Value::as_list).unwrap_or_default();
        let mut signatures = signatures.iter().filter_map(Value::as_message);
        signatures.any(|one| text(one, "key_id") == key.id() && key.verifies(&signed, &blob(one, "signature")))
    }

    /// Whether this release knows every field of what the envelope at `place` holds: an agent refuses half an order.
    pub fn is_known(&self, place: &str) -> bool {
        is_known(self.at(place))
    }

    /// Its kinds, in the words of [`Release::kinds`].
    pub fn kinds(&self) -> BTreeSet<String> {
        let (service, method) = self.method.trim_start_matches('/').split_once('/').unwrap_or_default();
        let mut kinds = BTreeSet::from([method_kind(&format!("{service}.{method}"))]);
        kinds.extend(choices(&self.message));
        for signed in self.signed.values() {
            kinds.insert(signed_kind(signed.descriptor().name()));
            kinds.extend(choices(signed));
        }
        kinds
    }

    /// Over the wire.
    pub fn bytes(&self) -> Bytes {
        self.message.encode_to_vec().into()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("releases")
}

fn pretty(message: &DynamicMessage) -> String {
    message.to_text_format_with_options(&FormatOptions::new().pretty(true))
}

fn method_kind(full_name: &str) -> String {
    full_name.trim_start_matches("sfdata.v1.").to_owned()
}

fn signed_kind(name: &str) -> String {
    format!("signed {name}")
}
