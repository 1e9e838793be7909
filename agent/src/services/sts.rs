//! STS: the agent's proof of its AWS identity. One request, GetCallerIdentity, signed by the SDK's own signer with the task's
//! credentials and never sent from here: the hub has STS answer it.
//!
//! Invariants: what is signed can be nothing but that call, for a host of AWS's STS (or of the stand-in that is configured),
//! and says which hub, which challenge and which certificate request it is for.

use std::{fmt::Write as _, time::SystemTime};

use aws_sdk_sts::config::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use jiff::Timestamp;
use sfdata_common::{error::chain, keys::sha256, outcome::FailureCode, sts};

use super::{Error, aws::Aws};

/// What the proof is for.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Host of the STS that the hub will ask.
    pub host: &'a str,
    /// Its region.
    pub region: &'a str,
    /// The hub's.
    pub challenge: &'a [u8],
    /// The hub's trust domain, from the agent's own configuration.
    pub server_id: &'a str,
    /// The certificate request.
    pub csr_der: &'a [u8],
}

/// The signed request as HTTP/1.1 would carry it.
pub(super) async fn prove(aws: &Aws, asked: &Asked<'_>, now: Timestamp) -> Result<Vec<u8>, Error> {
    let usual = sts::host(asked.region).ok_or_else(|| stranger(asked))?;
    let expected = aws.config().endpoint_url().map_or(Some(usual.as_str()), sts::authority);
    if expected != Some(asked.host) {
        return Err(stranger(asked));
    }
    let credentials = aws.credentials().await?.ok_or_else(|| {
        let message =
            "there are no AWS credentials to join with; give the agent's task a role, or correct aws.credentials_file";
        Error::failed(FailureCode::AccessDenied, message)
    })?;
    signed(credentials, asked, now).map_err(|error| {
        let message =
            format!("cannot sign the request to STS: {}; this is a fault of the agent; report it", chain(&*error));
        Error::failed(FailureCode::Internal, message)
    })
}

fn stranger(asked: &Asked<'_>) -> Error {
    let message = format!(
        "the hub wants a signature for {:?} in region {:?}, which is no STS that this agent signs for; nothing was signed. \
         Compare enrol.aws of the hub with aws.endpoint_url here",
        asked.host, asked.region
    );
    Error::failed(FailureCode::Rejected, message)
}

fn signed(
    credentials: Credentials,
    asked: &Asked<'_>,
    now: Timestamp,
) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let (challenge, csr) = (hex::encode(asked.challenge), hex::encode(sha256(asked.csr_der)));
    let ours = [
        ("content-type", sts::CONTENT_TYPE),
        ("host", asked.host),
        (sts::CHALLENGE_HEADER, challenge.as_str()),
        (sts::CSR_HEADER, csr.as_str()),
        (sts::SERVER_HEADER, asked.server_id),
    ];
    let identity = credentials.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(asked.region)
        .name(sts::SERVICE)
        .time(SystemTime::from(now))
        .settings(SigningSettings::default())
        .build()?
        .into();
    let body = SignableBody::Bytes(sts::BODY.as_bytes());
    let request = SignableRequest::new("POST", format!("https://{}/", asked.host), ours.into_iter(), body)?;
    let (instructions, _) = sign(request, &params)?.into_parts();
    let mut text = "POST / HTTP/1.1\r\n".to_owned();
    for (name, value) in ours.into_iter().chain(instructions.headers()) {
        write!(text, "{name}: {value}\r\n")?;
    }
    write!(text, "\r\n{}", sts::BODY)?;
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_names_hub_challenge_and_request() {
        let credentials = Credentials::new("ASIAEXAMPLEEXAMPLE00", "secret", Some("token".into()), None, "test");
        let asked = Asked {
            host: "sts.eu-west-2.amazonaws.com",
            region: "eu-west-2",
            challenge: &[7; 32],
            server_id: "sfdata.example",
            csr_der: b"request",
        };
        let text = String::from_utf8(signed(credentials, &asked, Timestamp::UNIX_EPOCH).unwrap()).unwrap();
        for line in [
            "POST / HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded\r\nhost: sts.eu-west-2.amazonaws.com\r\n",
            "\r\nx-amz-date: 19700101T000000Z\r\n",
            "\r\nx-amz-security-token: token\r\n",
            "Credential=ASIAEXAMPLEEXAMPLE00/19700101/eu-west-2/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date;\
             x-amz-security-token;x-hub-challenge;x-hub-csr-sha256;x-hub-server-id, Signature=",
            "\r\n\r\nAction=GetCallerIdentity&Version=2011-06-15",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
