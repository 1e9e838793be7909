//! On the way in: tokens, identities, certificates and requests for them, and the proof of an AWS identity.

use std::time::Duration;

use anyhow::Result;
use sfdata_common::{
    Timestamp,
    ids::{AgentId, CommandId},
    join::{self, JoinToken, Subject},
    keys::sha256,
    limits,
    peer::{self, Peer},
    sealed::{Opener, Place},
    telemetry::traces::TraceContext,
    tls::TlsKey,
    trust::{self, Bundle},
};
use sfdata_hub::enrol::{
    authority::Authority,
    iam::{
        reply,
        request::{Expected, check},
    },
};
use sfdata_proto::v1 as wire;

use super::{
    engine::Made,
    targets::{named, of_bytes, of_text, promise},
};

const DOMAIN: &str = "sfdata.example";

/// Join tokens: what is read is the same when written again.
pub(super) fn join_token() -> Result<Made> {
    let token = JoinToken {
        secret: vec![7; 32].into(),
        ca_pin: vec![8; 32].into(),
        subject: Some(Subject::Operator(wire::OperatorSubject { name: "alice".into() })),
        ..Default::default()
    };
    Ok(of_text(vec![join::encode(&token).to_string()], &["sfjoin_", "=", "A", "_"], |text| {
        let read = join::decode(text);
        if let Ok(token) = &read {
            let same = join::decode(&join::encode(token).to_string()).as_ref() == Ok(token);
            promise(same, "a token is another one when it is written again")?;
        }
        Ok(named(read))
    }))
}

/// Trust bundles in files.
pub(super) fn bundle_pem() -> Result<Made> {
    let envelope = wire::Envelope { payload_type: Bundle::PAYLOAD_TYPE.into(), ..Default::default() };
    let words = ["-----BEGIN SFDATA TRUST BUNDLE-----\n", "-----END SFDATA TRUST BUNDLE-----\n", "AAAA", "\n", ": "];
    static WORDS: std::sync::OnceLock<[&str; 5]> = std::sync::OnceLock::new();
    Ok(of_text(vec![trust::to_pem(&envelope)], WORDS.get_or_init(|| words), |text| {
        let read = trust::from_pem(text.as_bytes());
        if let Ok(envelope) = &read {
            let same = trust::from_pem(trust::to_pem(envelope).as_bytes()).as_ref() == Ok(envelope);
            promise(same, "a bundle is another one when it is written again")?;
            promise(Bundle::verify_first(envelope, None).is_err(), "a bundle that nobody signed is accepted")?;
        }
        Ok(named(read))
    }))
}

/// What a hub shows of itself.
pub(super) fn hub_identity_pem() -> Result<Made> {
    let identity = wire::HubIdentity { trust_domain: DOMAIN.into(), ..Default::default() };
    Ok(of_text(vec![trust::hub_identity_to_pem(&identity)], &["-----", "AAAA", "\n"], |text| {
        let Some(identity) = trust::hub_identity_from_pem(text.as_bytes()) else { return Ok("none".into()) };
        let again = trust::hub_identity_from_pem(trust::hub_identity_to_pem(&identity).as_bytes());
        promise(again.as_ref() == Some(&identity), "an identity is another one when it is written again")?;
        Ok("an identity".into())
    }))
}

fn authority() -> Result<Authority> {
    let folder = tempfile::tempdir()?;
    Ok(Authority::create(folder.path(), DOMAIN, Timestamp::now())?)
}

/// Who a certificate names. TLS has checked its chain before; what it names must still be read without harm.
pub(super) fn certificate() -> Result<Made> {
    let authority = authority()?;
    let subject = peer::Subject::Agent("northshire".parse()?);
    let day = Duration::from_secs(24 * 3600);
    let chain = authority.issue(&TlsKey::generate()?.request()?, &subject, day, Timestamp::now())?;
    Ok(of_bytes(chain, |input| {
        let peer = Peer::from_certificate(input);
        if let Ok(peer) = &peer {
            let uri = peer.subject.uri(&peer.trust_domain);
            promise(uri.matches('/').count() == 4, "a name has slashes in its parts")?;
        }
        Ok(named(peer))
    }))
}

/// Requests for a certificate: nothing but a P-256 key whose holder signed is certified, under the name that was asked for.
pub(super) fn certificate_request() -> Result<Made> {
    let authority = authority()?;
    let subject = peer::Subject::Agent("northshire".parse()?);
    let day = Duration::from_secs(24 * 3600);
    Ok(of_bytes(vec![TlsKey::generate()?.request()?], move |input| {
        let issued = authority.issue(input, &subject, day, Timestamp::now());
        if let Ok(chain) = &issued {
            let peer = chain.first().and_then(|leaf| Peer::from_certificate(leaf).ok());
            let right = peer.is_some_and(|peer| peer.subject == subject && peer.trust_domain == DOMAIN);
            promise(right, "a certificate names somebody else")?;
        }
        Ok(named(issued))
    }))
}

/// The signed request to STS: only what is exactly as it has to be is sent on.
pub(super) fn sts_request() -> Result<Made> {
    const HOST: &str = "sts.eu-west-2.amazonaws.com";
    const CHALLENGE: [u8; 32] = [7; 32];
    const CSR: &[u8] = b"a certificate request";
    let now: Timestamp = "2026-11-29T16:45:00Z".parse()?;
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let honest = format!(
        "POST / HTTP/1.1\r\n\
         content-type: application/x-www-form-urlencoded\r\n\
         host: {HOST}\r\n\
         x-hub-challenge: {}\r\n\
         x-hub-csr-sha256: {}\r\n\
         x-hub-server-id: sfdata.example\r\n\
         x-amz-date: 20261129T164400Z\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=ASIAEXAMPLEEXAMPLE00/20261129/eu-west-2/sts/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-hub-challenge;x-hub-csr-sha256;x-hub-server-id, \
         Signature={}\r\n\
         x-amz-security-token: IQoJb3JpZ2luX2VjEA/+=\r\n\
         \r\n\
         Action=GetCallerIdentity&Version=2011-06-15",
        hex(&CHALLENGE),
        hex(&sha256(CSR)),
        "0a".repeat(32),
    );
    let words =
        &["\r\n", "\r\n\r\n", "host: ", "x-amz-date: ", "x-hub-", "x-amz-", "POST / ", "http://", ";", "%0d", "&"];
    Ok(of_text(vec![honest.clone()], words, move |text| {
        let expected =
            Expected { host: HOST, region: "eu-west-2", challenge: &CHALLENGE, server_id: DOMAIN, csr_der: CSR, now };
        let checked = check(text.as_bytes(), &expected);
        let name = checked.as_ref().err().map(|refusal| format!("{refusal:?}")).unwrap_or_default();
        let name = name.split(['(', ' ']).next().unwrap_or_default().to_owned();
        if let Ok(checked) = &checked {
            promise(text.len() <= limits::SIGNED_REQUEST_BYTES, "it is too long")?;
            promise(text.ends_with("\r\n\r\nAction=GetCallerIdentity&Version=2011-06-15"), "its body is another call")?;
            let mut names: Vec<&str> = checked.headers().map(|(name, _)| name).collect();
            names.sort_unstable();
            names.dedup();
            promise(names.len() == 8 && checked.headers().count() == 8, "its headers are not the eight")?;
            let clean = checked.headers().all(|(_, value)| !value.contains(['\r', '\n']));
            promise(clean, "a header holds the end of a line")?;
        }
        Ok(name)
    }))
}

/// STS's answer, which somebody between the hub and AWS might have written.
pub(super) fn sts_reply() -> Result<Made> {
    let answer = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                  <Arn>arn:aws:sts::111111111111:assumed-role/sfdata-agent/0123</Arn>\
                  <UserId>AROAEXAMPLEEXAMPLE000:0123</UserId><Account>111111111111</Account>\
                  </GetCallerIdentityResult></GetCallerIdentityResponse>";
    let error = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code></Error></ErrorResponse>";
    let words = &["<Arn>", "</Arn>", "<![CDATA[", "<!--", "&amp;", "<!DOCTYPE", "<?xml?>", "<Account>", "/", ":"];
    Ok(of_text(vec![answer.into(), error.into()], words, |text| {
        let caller = reply::read(text.as_bytes());
        if let Ok(caller) = &caller {
            promise(text.contains(caller.account.as_str()), "an account is made up")?;
            promise(caller.role_id.starts_with("AROA"), "a role's id is none")?;
        }
        let code = reply::code(text.as_bytes());
        promise(code.as_ref().is_none_or(|code| code.len() <= 64), "a code is too long")?;
        let odd = caller.as_ref().err().map(|odd| format!("{odd:?}")).unwrap_or_default();
        Ok(format!("{} {}", odd.split('(').next().unwrap_or_default(), code.is_some()))
    }))
}

/// Sealed answers: nothing opens but what was sealed, at its place.
pub(super) fn sealed() -> Result<Made> {
    let opener = Opener::generate()?;
    let (command, agent): (CommandId, AgentId) = (CommandId::generate(), "northshire".parse()?);
    let place = Place { command, agent: &agent, part: Some(1) };
    let sealed = opener.reply_key().seal(place, b"an answer")?;
    let bytes = prost::Message::encode_to_vec(&sealed);
    let seen = agent.clone();
    Ok(of_bytes(vec![bytes], move |input| {
        let Ok(sealed) = <wire::Sealed as prost::Message>::decode(input) else { return Ok("no message".into()) };
        let elsewhere = Place { command, agent: &seen, part: None };
        promise(opener.open(elsewhere, &sealed).is_err(), "an answer opens at another place")?;
        let opened = opener.open(Place { command, agent: &seen, part: Some(1) }, &sealed);
        promise(opened.as_ref().is_ok_and(|answer| answer == b"an answer") || opened.is_err(), "another answer opens")?;
        Ok(named(opened))
    }))
}

/// The context of a trace, which stands beside each delivery and is signed by nobody.
pub(super) fn traceparent() -> Result<Made> {
    let seed = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    Ok(of_text(vec![seed], &["-", "00", "ff", "0"], |text| {
        Ok(if TraceContext::parse(text).is_some() { "a context" } else { "none" }.into())
    }))
}
