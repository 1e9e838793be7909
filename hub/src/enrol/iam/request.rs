//! The strict look at a signed request to STS, over the bytes that the agent handed over: what is not exactly as it has to be
//! is refused by name. Pure; whether the signature holds is for AWS to say.
//!
//! Invariants: a [`Checked`] is made here alone. It holds the headers of a closed list, each once, each among those signed,
//! with method, path, host and body that are constants of ours; only that is sent on, never what came in.

use std::time::Duration;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use sfdata_common::{keys::sha256, limits, sts};

/// Headers that the request has, each exactly once, in the order in which SigV4 signs them.
const SIGNED: [&str; 7] = [
    "content-type",
    "host",
    "x-amz-date",
    "x-amz-security-token",
    sts::CHALLENGE_HEADER,
    sts::CSR_HEADER,
    sts::SERVER_HEADER,
];
const AUTHORIZATION: &str = "authorization";
const ALGORITHM: &str = "AWS4-HMAC-SHA256 ";

/// Why a request is not sent on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More than any such request has.
    #[error("it has more than {} bytes", limits::SIGNED_REQUEST_BYTES)]
    TooLarge,
    /// Bytes that no header needs.
    #[error("it holds bytes that are neither printable ASCII nor the end of a line")]
    NotAscii,
    /// No empty line, or a line that ends otherwise than HTTP's.
    #[error("it is not HTTP/1.1 line by line")]
    Lines,
    /// Not POST.
    #[error("its method is not POST")]
    Method,
    /// Not `/`: another path, a query, or a whole URL with scheme, user or host.
    #[error("its target is not / alone")]
    Target,
    /// Another protocol.
    #[error("its protocol is not HTTP/1.1")]
    Version,
    /// A header over several lines.
    #[error("a header is folded over several lines")]
    Folded,
    /// A line that is no `name: value`.
    #[error("line {0} is not name: value with one space, and none at the end")]
    Header(usize),
    /// A name in another case than the signer's.
    #[error("header {0} is not written in lower case")]
    Case(String),
    /// An `x-amz-` header that SigV4 does not need.
    #[error("header {0} is none of SigV4's")]
    ExtraAmz(String),
    /// Any other.
    #[error("header {0} has no place in it")]
    Extra(String),
    /// One that is there twice.
    #[error("header {0} is there more than once")]
    Repeated(&'static str),
    /// One that is not there.
    #[error("header {0} is missing")]
    Missing(&'static str),
    /// One that the signature does not cover.
    #[error("header {0} is not signed")]
    Unsigned(&'static str),
    /// The list of signed headers is another one.
    #[error("the signed headers are not those of the request, in order")]
    SignedHeaders,
    /// For another STS.
    #[error("it is for host {found:?}, and {expected} is asked")]
    Host {
        /// As this hub asks it.
        expected: String,
        /// In the request.
        found: String,
    },
    /// A header of ours, or the type of the body, says something else.
    #[error("header {0} is not what the hub sent or computed")]
    Differs(&'static str),
    /// The body is another call, or has more in it.
    #[error("its body is not the one call GetCallerIdentity")]
    Body,
    /// No date of SigV4.
    #[error("x-amz-date is no date of SigV4")]
    Date,
    /// Too old, or of the future.
    #[error("it was signed {0} s away from the hub's time; set the agent's clock")]
    Skew(u64),
    /// No session token.
    #[error("x-amz-security-token is no session token")]
    Token,
    /// Not as SigV4 writes it.
    #[error("its authorization is not one of SigV4")]
    Authorization,
    /// Signed for another day, region or service.
    #[error("its signature is for {0:?}, not for this region's STS and the request's date")]
    Scope(String),
}

/// What the hub knows of the request beforehand.
pub struct Expected<'a> {
    /// Of the STS that the hub asks.
    pub host: &'a str,
    /// Of that STS.
    pub region: &'a str,
    /// That the hub sent.
    pub challenge: &'a [u8; 32],
    /// This hub.
    pub server_id: &'a str,
    /// That came beside the request.
    pub csr_der: &'a [u8],
    /// The hub's time.
    pub now: Timestamp,
}

/// A request that passed [`check`].
#[derive(Debug)]
pub struct Checked {
    headers: Vec<(&'static str, String)>,
}

impl Checked {
    /// Its headers; all else is constant.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// Look at everything, and take apart what may be sent on.
pub fn check(request: &[u8], expected: &Expected<'_>) -> Result<Checked, Refusal> {
    if request.len() > limits::SIGNED_REQUEST_BYTES {
        return Err(Refusal::TooLarge);
    }
    let text = std::str::from_utf8(request).map_err(|_| Refusal::NotAscii)?;
    if !text.bytes().all(|b| matches!(b, b'\t' | b'\r' | b'\n' | b' '..=b'~')) {
        return Err(Refusal::NotAscii);
    }
    let (head, body) = text.split_once("\r\n\r\n").ok_or(Refusal::Lines)?;
    let mut lines = head.split("\r\n");
    start(lines.next().unwrap_or_default())?;
    let mut found: Vec<(&'static str, String)> = Vec::with_capacity(SIGNED.len() + 1);
    for (number, line) in lines.enumerate() {
        let (name, value) = header(number + 2, line)?;
        if found.iter().any(|(other, _)| *other == name) {
            return Err(Refusal::Repeated(name));
        }
        found.push((name, value.to_owned()));
    }
    let value = |name: &'static str| {
        let value = found.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str());
        value.ok_or(Refusal::Missing(name))
    };
    let authorization = value(AUTHORIZATION)?;
    SIGNED.iter().try_for_each(|name| value(name).map(|_| ()))?;

    let host = value("host")?;
    if host != expected.host {
        return Err(Refusal::Host { expected: expected.host.to_owned(), found: host.chars().take(100).collect() });
    }
    for (name, right) in [
        ("content-type", sts::CONTENT_TYPE),
        (sts::CHALLENGE_HEADER, &hex::encode(expected.challenge)),
        (sts::SERVER_HEADER, expected.server_id),
        (sts::CSR_HEADER, &hex::encode(sha256(expected.csr_der))),
    ] {
        if value(name)? != right {
            return Err(Refusal::Differs(name));
        }
    }
    let date = value("x-amz-date")?;
    check_date(date, expected.now)?;
    // Base64, as STS gives it.
    if !value("x-amz-security-token")?.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)) {
        return Err(Refusal::Token);
    }
    check_authorization(authorization, date, expected.region)?;
    if body != sts::BODY {
        return Err(Refusal::Body);
    }
    Ok(Checked { headers: found })
}

fn start(line: &str) -> Result<(), Refusal> {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else { return Err(Refusal::Lines) };
    if method != "POST" {
        return Err(Refusal::Method);
    }
    if target != "/" {
        return Err(Refusal::Target);
    }
    if version != "HTTP/1.1" { Err(Refusal::Version) } else { Ok(()) }
}

/// The one of our names that a line has, and its value.
fn header(number: usize, line: &str) -> Result<(&'static str, &str), Refusal> {
    if line.starts_with([' ', '\t']) {
        return Err(Refusal::Folded);
    }
    // A line end of its own, within what is a line of HTTP.
    if line.contains(['\r', '\n', '\t']) {
        return Err(Refusal::Lines);
    }
    let (name, value) = line.split_once(": ").ok_or(Refusal::Header(number))?;
    // SigV4 signs runs of spaces as one, so what has them would not be known by its signature.
    if name.is_empty() || value.is_empty() || value.starts_with(' ') || value.ends_with(' ') || value.contains("  ") {
        return Err(Refusal::Header(number));
    }
    let ours = SIGNED.into_iter().chain([AUTHORIZATION]).find(|known| known.eq_ignore_ascii_case(name));
    match ours {
        Some(known) if known == name => Ok((known, value)),
        Some(_) => Err(Refusal::Case(told(name))),
        None if name.to_ascii_lowercase().starts_with("x-amz-") => Err(Refusal::ExtraAmz(told(name))),
        None => Err(Refusal::Extra(told(name))),
    }
}

fn told(name: &str) -> String {
    name.chars().take(100).collect()
}

/// `20261129T164500Z`, within what AWS allows.
fn check_date(date: &str, now: Timestamp) -> Result<(), Refusal> {
    let digits = |range: std::ops::Range<usize>| {
        let part = date.get(range).filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
        part.and_then(|part| part.parse::<i16>().ok()).ok_or(Refusal::Date)
    };
    if date.len() != 16 || date.get(8..9) != Some("T") || date.get(15..) != Some("Z") {
        return Err(Refusal::Date);
    }
    let small = |range| digits(range).and_then(|number| i8::try_from(number).map_err(|_| Refusal::Date));
    let (year, month, day) = (digits(0..4)?, small(4..6)?, small(6..8)?);
    let (hour, minute, second) = (small(9..11)?, small(11..13)?, small(13..15)?);
    let signed = DateTime::new(year, month, day, hour, minute, second, 0).map_err(|_| Refusal::Date)?;
    let signed = signed.to_zoned(TimeZone::UTC).map_err(|_| Refusal::Date)?.timestamp();
    let away: Duration = now.duration_since(signed).unsigned_abs();
    if away > limits::SIGNATURE_SKEW { Err(Refusal::Skew(away.as_secs())) } else { Ok(()) }
}

/// `AWS4-HMAC-SHA256 Credential=…/20261129/eu-west-2/sts/aws4_request, SignedHeaders=…, Signature=…`
fn check_authorization(authorization: &str, date: &str, region: &str) -> Result<(), Refusal> {
    let parts: Vec<&str> = authorization.strip_prefix(ALGORITHM).ok_or(Refusal::Authorization)?.split(", ").collect();
    let [credential, headers, signature] = parts[..] else { return Err(Refusal::Authorization) };
    let of = |part: &'_ str, name| part.strip_prefix(name).map(str::to_owned).ok_or(Refusal::Authorization);
    let (credential, headers) = (of(credential, "Credential=")?, of(headers, "SignedHeaders=")?);
    let signature = of(signature, "Signature=")?;

    let (key, scope) = credential.split_once('/').ok_or(Refusal::Authorization)?;
    // STS API reference, Credentials: 16 to 128 word characters.
    if !(16..=128).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
        return Err(Refusal::Authorization);
    }
    if scope != format!("{}/{region}/{}/aws4_request", &date[..8], sts::SERVICE) {
        return Err(Refusal::Scope(scope.chars().take(100).collect()));
    }
    if let Some(left_out) = SIGNED.into_iter().find(|name| headers.split(';').all(|signed| signed != *name)) {
        return Err(Refusal::Unsigned(left_out));
    }
    if headers != SIGNED.join(";") {
        return Err(Refusal::SignedHeaders);
    }
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if signature.len() != 64 || !signature.bytes().all(is_hex) { Err(Refusal::Authorization) } else { Ok(()) }
}
