//! What an agent signs with its AWS identity and the hub has AWS answer: one call of STS, GetCallerIdentity, that says who
//! signed it, with headers that bind it to one hub, one challenge and one certificate request.
//!
//! Both sides name the same headers and hosts here. All but the `x-hub-*` headers is what the AWS SDKs send
//! (SigV4: AWS's "Signature Version 4 for API requests").

/// The whole body.
pub const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// Type of the body.
pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";
/// Service's name in a signature.
pub const SERVICE: &str = "sts";

/// Header with the hub's challenge, in lower-case hexadecimal digits.
pub const CHALLENGE_HEADER: &str = "x-hub-challenge";
/// Header with the trust domain of the hub that is meant, as the agent pinned it: no hub can have it signed for another.
pub const SERVER_HEADER: &str = "x-hub-server-id";
/// Header with SHA-256 over the certificate request in DER, in lower-case hexadecimal digits.
pub const CSR_HEADER: &str = "x-hub-csr-sha256";

/// Regions whose STS is asked: those of AWS in Europe, where the LAs' data may lie. (AWS General Reference, "AWS STS endpoints".)
pub const REGIONS: [&str; 8] =
    ["eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3"];

/// The host of a region's STS; `None` for a region that is not one of [`REGIONS`].
pub fn host(region: &str) -> Option<String> {
    REGIONS.contains(&region).then(|| format!("sts.{region}.amazonaws.com"))
}

/// `host:port` of the URL of a stand-in for AWS.
pub fn authority(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    Some(rest.strip_suffix('/').unwrap_or(rest)).filter(|rest| !rest.is_empty() && !rest.contains(['/', '@', '?', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_regions_have_a_host_and_only_plain_urls_an_authority() {
        assert_eq!(host("eu-west-2").as_deref(), Some("sts.eu-west-2.amazonaws.com"));
        for other in ["", "eu-west-9", "EU-WEST-2", "us-east-1", "eu-west-2.evil.example"] {
            assert_eq!(host(other), None, "{other}");
        }
        assert_eq!(authority("http://127.0.0.1:5000"), Some("127.0.0.1:5000"));
        assert_eq!(authority("http://127.0.0.1:5000/"), Some("127.0.0.1:5000"));
        for other in ["127.0.0.1:5000", "http://", "http://a@127.0.0.1:1", "http://127.0.0.1:1/path"] {
            assert_eq!(authority(other), None, "{other}");
        }
    }
}
