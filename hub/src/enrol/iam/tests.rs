//! Hostile variants of the signed request and of STS's answer, each with the reason that it is refused for.

use std::time::Duration;

use jiff::Timestamp;
use sfdata_common::{keys::sha256, limits};

use super::{
    Challenges,
    reply::{self, Odd},
    request::{Checked, Expected, Refusal, check},
};

const HOST: &str = "sts.eu-west-2.amazonaws.com";
const CHALLENGE: [u8; 32] = [7; 32];
const CSR: &[u8] = b"a certificate request";

fn now() -> Timestamp {
    "2026-11-29T16:45:00Z".parse().unwrap()
}

fn honest() -> String {
    format!(
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
        hex::encode(CHALLENGE),
        hex::encode(sha256(CSR)),
        "0a".repeat(32),
    )
}

fn look(request: &[u8]) -> Result<Checked, Refusal> {
    let expected = Expected {
        host: HOST,
        region: "eu-west-2",
        challenge: &CHALLENGE,
        server_id: "sfdata.example",
        csr_der: CSR,
        now: now(),
    };
    check(request, &expected)
}

#[test]
fn an_honest_request_is_taken_apart_into_its_eight_headers() {
    let checked = look(honest().as_bytes()).unwrap();
    let names: Vec<&str> = checked.headers().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 8, "{names:?}");
    assert!(names.iter().all(|name| honest().contains(&format!("\r\n{name}: "))));
}

#[test]
fn every_hostile_variant_is_refused_for_its_reason() {
    use Refusal::*;
    let host = |found: &str| Host { expected: HOST.into(), found: found.into() };
    let (long, cut) = ("x".repeat(300), "x".repeat(100));
    let large = "A".repeat(limits::SIGNED_REQUEST_BYTES);
    // What is put in place of what, and why that is refused.
    let table: Vec<(&str, &str, &str, Refusal)> = vec![
        ("method GET", "POST /", "GET /", Method),
        ("method in lower case", "POST /", "post /", Method),
        ("method of its own", "POST /", "POSTS /", Method),
        ("a query", "POST / ", "POST /?Action=AssumeRole ", Target),
        ("another path", "POST / ", "POST /x ", Target),
        ("two slashes", "POST / ", "POST // ", Target),
        ("an escaped path", "POST / ", "POST /%2e ", Target),
        ("scheme and host", "POST / ", "POST https://evil.example/ ", Target),
        ("scheme http", "POST / ", "POST http://sts.eu-west-2.amazonaws.com/ ", Target),
        ("userinfo", "POST / ", "POST https://sts.eu-west-2.amazonaws.com@evil.example/ ", Target),
        ("a port in the target", "POST / ", "POST sts.eu-west-2.amazonaws.com:443 ", Target),
        ("a fragment", "POST / ", "POST /# ", Target),
        ("two spaces in the first line", "POST /", "POST  /", Lines),
        ("HTTP/1.0", "HTTP/1.1", "HTTP/1.0", Version),
        ("HTTP/2", "HTTP/1.1", "HTTP/2", Version),
        ("another call", "GetCallerIdentity", "AssumeRole", Body),
        ("a longer body", "2011-06-15", "2011-06-15&RoleArn=x", Body),
        (
            "a body in another order",
            "Action=GetCallerIdentity&Version=2011-06-15",
            "Version=2011-06-15&Action=GetCallerIdentity",
            Body,
        ),
        ("a body with a line end", "2011-06-15", "2011-06-15\r\n", Body),
        ("a second request behind it", "2011-06-15", "2011-06-15POST / HTTP/1.1\r\n\r\n", Body),
        ("no body", "Action=GetCallerIdentity&Version=2011-06-15", "", Body),
        ("another host", HOST, "evil.example", host("evil.example")),
        (
            "a host beside it",
            HOST,
            "sts.eu-west-2.amazonaws.com.evil.example",
            host("sts.eu-west-2.amazonaws.com.evil.example"),
        ),
        ("another region's host", HOST, "sts.eu-west-1.amazonaws.com", host("sts.eu-west-1.amazonaws.com")),
        ("the global host", HOST, "sts.amazonaws.com", host("sts.amazonaws.com")),
        ("a port", HOST, "sts.eu-west-2.amazonaws.com:443", host("sts.eu-west-2.amazonaws.com:443")),
        ("a user in the host", HOST, "a@sts.eu-west-2.amazonaws.com", host("a@sts.eu-west-2.amazonaws.com")),
        ("a host in another case", HOST, "STS.eu-west-2.amazonaws.com", host("STS.eu-west-2.amazonaws.com")),
        ("a host with its dot", HOST, "sts.eu-west-2.amazonaws.com.", host("sts.eu-west-2.amazonaws.com.")),
        ("a long host", HOST, &long, host(&cut)),
        ("no host", "host: sts.eu-west-2.amazonaws.com\r\n", "", Missing("host")),
        ("a second host", "host: ", "host: evil.example\r\nhost: ", Repeated("host")),
        (
            "a second challenge",
            "x-hub-challenge: ",
            "x-hub-challenge: 00\r\nx-hub-challenge: ",
            Repeated("x-hub-challenge"),
        ),
        (
            "a second server",
            "x-hub-server-id: ",
            "x-hub-server-id: other\r\nx-hub-server-id: ",
            Repeated("x-hub-server-id"),
        ),
        (
            "a second authorization",
            "authorization: ",
            "authorization: AWS4\r\nauthorization: ",
            Repeated("authorization"),
        ),
        ("a second date", "x-amz-date: ", "x-amz-date: 20261129T164400Z\r\nx-amz-date: ", Repeated("x-amz-date")),
        (
            "a second token",
            "x-amz-security-token: ",
            "x-amz-security-token: A\r\nx-amz-security-token: ",
            Repeated("x-amz-security-token"),
        ),
        ("no challenge", "x-hub-challenge: 0707", "x-hub-other: 0707", Extra("x-hub-other".into())),
        ("no server", "x-hub-server-id: sfdata.example\r\n", "", Missing("x-hub-server-id")),
        ("no date", "x-amz-date: 20261129T164400Z\r\n", "", Missing("x-amz-date")),
        ("no token", "x-amz-security-token: IQoJb3JpZ2luX2VjEA/+=\r\n", "", Missing("x-amz-security-token")),
        ("no type", "content-type: application/x-www-form-urlencoded\r\n", "", Missing("content-type")),
        ("a re-cased host", "host: ", "Host: ", Case("Host".into())),
        ("a re-cased challenge", "x-hub-challenge: ", "X-Hub-Challenge: ", Case("X-Hub-Challenge".into())),
        ("a re-cased date", "x-amz-date: ", "X-Amz-Date: ", Case("X-Amz-Date".into())),
        (
            "a re-cased second challenge",
            "x-hub-challenge: ",
            "X-HUB-challenge: 00\r\nx-hub-challenge: ",
            Case("X-HUB-challenge".into()),
        ),
        ("a folded header", "x-hub-server-id: sfdata", "x-hub-server-id:\r\n sfdata", Header(6)),
        ("a folded value", "sfdata.example", "sfdata.example\r\n other", Folded),
        ("a value folded by a tab", "sfdata.example", "sfdata.example\r\n\tother", Folded),
        ("a line end without its half", "sfdata.example\r\n", "sfdata.example\nx: y\r\n", Lines),
        ("a carriage return within", "sfdata.example", "sfdata\r.example", Lines),
        ("a tab within", "sfdata.example", "sfdata\t.example", Lines),
        ("no space", "x-hub-server-id: ", "x-hub-server-id:", Header(6)),
        ("a space before the colon", "x-hub-server-id: ", "x-hub-server-id : ", Extra("x-hub-server-id ".into())),
        ("two spaces", "x-hub-server-id: ", "x-hub-server-id:  ", Header(6)),
        ("a space at the end", "sfdata.example", "sfdata.example ", Header(6)),
        ("two spaces that are signed as one", "aws4_request, Signed", "aws4_request,  Signed", Header(8)),
        ("a header without a name", "x-hub-server-id: ", ": y\r\nx-hub-server-id: ", Header(6)),
        ("another target of AWS", "host: ", "x-amz-target: x\r\nhost: ", ExtraAmz("x-amz-target".into())),
        (
            "a content digest",
            "host: ",
            "x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nhost: ",
            ExtraAmz("x-amz-content-sha256".into()),
        ),
        ("a re-cased extra", "host: ", "X-Amz-Algorithm: x\r\nhost: ", ExtraAmz("X-Amz-Algorithm".into())),
        ("a forwarded host", "host: ", "x-forwarded-host: evil\r\nhost: ", Extra("x-forwarded-host".into())),
        ("a length", "host: ", "content-length: 0\r\nhost: ", Extra("content-length".into())),
        ("chunks", "host: ", "transfer-encoding: chunked\r\nhost: ", Extra("transfer-encoding".into())),
        ("a connection header", "host: ", "connection: x-hub-challenge\r\nhost: ", Extra("connection".into())),
        ("another answer's type", "host: ", "accept: application/json\r\nhost: ", Extra("accept".into())),
        ("another type", "x-www-form-urlencoded", "json", Differs("content-type")),
        (
            "a parameter of the type",
            "x-www-form-urlencoded",
            "x-www-form-urlencoded; charset=utf-8",
            Differs("content-type"),
        ),
        ("another challenge", "x-hub-challenge: 07", "x-hub-challenge: 08", Differs("x-hub-challenge")),
        ("a longer challenge", "x-hub-challenge: 07", "x-hub-challenge: 0007", Differs("x-hub-challenge")),
        ("another hub", "sfdata.example", "other.example", Differs("x-hub-server-id")),
        ("another request", "x-hub-csr-sha256: ", "x-hub-csr-sha256: 0", Differs("x-hub-csr-sha256")),
        ("a date of an hour ago", "T164400Z", "T154400Z", Skew(3660)),
        ("a date in an hour", "T164400Z", "T174500Z", Skew(3600)),
        ("a date of no month", "x-amz-date: 20261129", "x-amz-date: 20261329", Date),
        ("a date of signs", "x-amz-date: 20261129", "x-amz-date: +2261129", Date),
        ("a date of another kind", "20261129T164400Z", "2026-11-29T16:44:00Z", Date),
        ("a token that is none", "IQoJb3JpZ2luX2VjEA/+=", "IQoJ%0d%0a", Token),
        ("a token with a word behind it", "IQoJb3JpZ2luX2VjEA/+=", "IQoJ, x", Token),
        ("another algorithm", "AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 ", Authorization),
        ("another scheme", "AWS4-HMAC-SHA256 ", "Bearer ", Authorization),
        ("another service", "/sts/", "/s3/", Scope("20261129/eu-west-2/s3/aws4_request".into())),
        ("another region", "/eu-west-2/", "/us-east-1/", Scope("20261129/us-east-1/sts/aws4_request".into())),
        ("another day", "/20261129/", "/20261128/", Scope("20261128/eu-west-2/sts/aws4_request".into())),
        (
            "a key with a slash",
            "ASIAEXAMPLEEXAMPLE00/",
            "ASIAEXAMPLEEXAMPLE00/x/",
            Scope("x/20261129/eu-west-2/sts/aws4_request".into()),
        ),
        ("a short key", "ASIAEXAMPLEEXAMPLE00", "ASIA", Authorization),
        ("a key in lower case", "ASIAEXAMPLEEXAMPLE00", "asiaexampleexample00", Authorization),
        (
            "an unsigned challenge",
            "x-amz-security-token;x-hub-challenge;",
            "x-amz-security-token;",
            Unsigned("x-hub-challenge"),
        ),
        ("an unsigned request", "x-hub-csr-sha256;x", "x", Unsigned("x-hub-csr-sha256")),
        ("an unsigned server", ";x-hub-server-id,", ",", Unsigned("x-hub-server-id")),
        ("an unsigned host", "content-type;host;", "content-type;", Unsigned("host")),
        ("an unsigned token", "x-amz-date;x-amz-security-token;", "x-amz-date;", Unsigned("x-amz-security-token")),
        ("an unsigned date", "host;x-amz-date;", "host;", Unsigned("x-amz-date")),
        ("a re-cased signed header", ";x-hub-challenge;", ";X-Hub-Challenge;", Unsigned("x-hub-challenge")),
        ("a signed header that is not there", "content-type;host;", "content-type;host;x-other;", SignedHeaders),
        ("a header signed twice", ";host;", ";host;host;", SignedHeaders),
        ("signed headers in another order", "content-type;host;", "host;content-type;", SignedHeaders),
        ("a second list of them", "SignedHeaders=", "SignedHeaders=host, SignedHeaders=", Authorization),
        ("a short signature", "Signature=0a", "Signature=", Authorization),
        ("a signature in upper case", "Signature=0a", "Signature=0A", Authorization),
        ("what is not ASCII", "sfdata.example", "sfdata.exämple", NotAscii),
        ("a zero byte", "sfdata.example", "sfdata.example\0", NotAscii),
        ("a huge header", "IQoJb3JpZ2luX2VjEA/+=", &large, TooLarge),
        ("no end of the head", "\r\n\r\n", "\r\n", Lines),
    ];
    assert!(table.len() >= 40);
    for (name, from, to, refusal) in &table {
        let request = honest();
        assert!(request.contains(from), "{name} changes nothing");
        let told = look(request.replacen(from, to, 1).as_bytes());
        assert_eq!(told.err().as_ref(), Some(refusal), "{name}");
    }
    assert_eq!(look(b"").err(), Some(Lines));
    assert_eq!(look(&[0xff; 10]).err(), Some(NotAscii));
}

#[test]
fn no_cut_and_no_flipped_bit_passes_but_for_those_that_only_aws_can_judge() {
    let honest = honest().into_bytes();
    for cut in 0..honest.len() {
        assert!(look(&honest[..cut]).is_err(), "cut at {cut}");
    }
    let text = String::from_utf8(honest.clone()).unwrap();
    let of = |what: &str, length: usize| text.find(what).map(|at| at + what.len()).map(|at| at..at + length).unwrap();
    // The date's minutes and seconds, the key's id, the token and the signature itself.
    let judged = [of("T16", 4), of("Credential=", 20), of("token: ", 21), of("Signature=", 64)];
    for at in 0..honest.len() {
        for bit in 0..8 {
            let mut flipped = honest.clone();
            flipped[at] ^= 1 << bit;
            let passes = look(&flipped).is_ok();
            assert!(!passes || judged.iter().any(|range| range.contains(&at)), "bit {bit} of byte {at}");
        }
    }
}

const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult>
    <Arn>arn:aws:sts::222222222222:assumed-role/sfdata-agent/0123abc</Arn>
    <UserId>AROAEXAMPLEEXAMPLE00:0123abc</UserId>
    <Account>222222222222</Account>
  </GetCallerIdentityResult>
  <ResponseMetadata><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ResponseMetadata>
</GetCallerIdentityResponse>
"#;

#[test]
fn an_answer_of_sts_tells_account_role_and_its_unique_id() {
    let caller = reply::read(ANSWER.as_bytes()).unwrap();
    assert_eq!((caller.account.as_str(), caller.role.as_str()), ("222222222222", "sfdata-agent"));
    assert_eq!((caller.role_id.as_str(), caller.session.as_str()), ("AROAEXAMPLEEXAMPLE00", "0123abc"));
    let error = b"<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code></Error></ErrorResponse>";
    assert_eq!(reply::code(error).as_deref(), Some("ExpiredToken"));
    assert_eq!(reply::code(b"<html><body>no</html>"), None);
}

#[test]
fn every_odd_answer_is_refused_for_its_reason() {
    let arn = "arn:aws:sts::222222222222:assumed-role/sfdata-agent/0123abc";
    let not_a_role = |arn: &str| Odd::NotARole(arn.into());
    let table: Vec<(&str, &str, Odd)> = vec![
        ("Account>222222222222</Account", "Account>22222222222</Account", Odd::Account),
        ("<Account>222222222222</Account>", "", Odd::Fact("Account")),
        ("<Account>", "<Account>222222222222</Account><Account>", Odd::Fact("Account")),
        ("<RequestId>", "<Arn>arn:aws:sts::333333333333:assumed-role/x/y</Arn><RequestId>", Odd::Fact("Arn")),
        ("<UserId>AROAEXAMPLEEXAMPLE00:0123abc</UserId>", "", Odd::Fact("UserId")),
        (arn, "arn:aws:iam::222222222222:user/sfdata-agent", not_a_role("arn:aws:iam::222222222222:user/sfdata-agent")),
        (arn, "arn:aws:iam::222222222222:root", not_a_role("arn:aws:iam::222222222222:root")),
        (arn, "arn:aws:iam::222222222222:role/sfdata-agent", not_a_role("arn:aws:iam::222222222222:role/sfdata-agent")),
        (
            arn,
            "arn:aws:sts::222222222222:federated-user/sfdata-agent",
            not_a_role("arn:aws:sts::222222222222:federated-user/sfdata-agent"),
        ),
        (
            arn,
            "arn:aws-cn:sts::222222222222:assumed-role/sfdata-agent/0123abc",
            not_a_role("arn:aws-cn:sts::222222222222:assumed-role/sfdata-agent/0123abc"),
        ),
        (
            "sfdata-agent/0123abc",
            "path/sfdata-agent/0123abc",
            not_a_role("arn:aws:sts::222222222222:assumed-role/path/sfdata-agent/0123abc"),
        ),
        ("/sfdata-agent/", "//", not_a_role("arn:aws:sts::222222222222:assumed-role//0123abc")),
        ("222222222222:assumed", "333333333333:assumed", Odd::Disagrees),
        ("AROAEXAMPLEEXAMPLE00:", "AIDAEXAMPLEEXAMPLE00:", Odd::Disagrees),
        ("AROAEXAMPLEEXAMPLE00:", "AROA:", Odd::Disagrees),
        ("00:0123abc<", "00:other<", Odd::Disagrees),
        ("00:0123abc<", "00<", Odd::Disagrees),
        ("<?xml version", "<!DOCTYPE x [<!ENTITY a \"222222222222\">]><?xml version", Odd::Xml),
        ("Account>222222222222<", "Account>&#50;22222222222<", Odd::Xml),
        ("Account>222222222222<", "Account><![CDATA[222222222222]]><", Odd::Xml),
        ("Account>222222222222<", "Account>2222<!-- -->22222222<", Odd::Xml),
        ("</GetCallerIdentityResponse>", "", Odd::Xml),
        ("</GetCallerIdentityResult>", "</ResponseMetadata>", Odd::Xml),
        ("</GetCallerIdentityResponse>", "</GetCallerIdentityResponse><a>b</a>", Odd::Xml),
        ("<Account>", "<Account x=\"y\">", Odd::Xml),
        ("<Account>", "<a:Account>", Odd::Xml),
    ];
    for (from, to, odd) in table {
        assert!(ANSWER.contains(from), "{from} changes nothing");
        assert_eq!(reply::read(ANSWER.replacen(from, to, 1).as_bytes()).err(), Some(odd), "{from} -> {to}");
    }
    let json = br#"{"GetCallerIdentityResponse":{}}"#;
    assert_eq!(reply::read(json).err(), Some(Odd::Xml));
    assert_eq!(reply::read(b"").err(), Some(Odd::Xml));
    assert_eq!(reply::read(&[0xff]).err(), Some(Odd::Xml));
    let deep = "<a>".repeat(1000);
    assert_eq!(reply::read(deep.as_bytes()).err(), Some(Odd::Xml));
}

#[test]
fn a_challenge_takes_one_attempt_within_a_minute_and_there_are_so_many() {
    let camden: sfdata_common::ids::AgentId = "camden".parse().unwrap();
    let mut challenges = Challenges::default();
    challenges.put([1; 32], camden.clone(), now());
    challenges.put([2; 32], camden.clone(), now());
    challenges.put([3; 32], camden.clone(), now());
    assert_eq!(challenges.take(&[1; 32], now()), Some(([1; 32], camden.clone())));
    assert_eq!(challenges.take(&[1; 32], now()), None, "used up");
    let second = Duration::from_secs(1);
    assert!(challenges.take(&[2; 32], now() + limits::CHALLENGE).is_some());
    assert_eq!(challenges.take(&[3; 32], now() + limits::CHALLENGE + second), None, "too late");
    assert_eq!(challenges.take(&[3; 32], now()), None, "and used up by that");
    assert_eq!(challenges.take(&[9; 32], now()), None);
    assert_eq!(challenges.take(&[1; 31], now()), None);

    let mut number = [0; 32];
    challenges.put([1; 32], camden.clone(), now());
    for count in 0..limits::CHALLENGES {
        number[..8].copy_from_slice(&count.to_be_bytes());
        challenges.put(number, camden.clone(), now());
    }
    assert_eq!(challenges.take(&[1; 32], now()), None, "the oldest gave way");
    assert!(challenges.take(&number, now()).is_some());
    assert!(challenges.waiting.len() <= limits::CHALLENGES && challenges.order.len() <= limits::CHALLENGES);
}
