//! A bucket's policy as a document: our statements go in and out by their Sid, and all others stay as they were found.
//!
//! Pure. Others' statements are JSON that is never interpreted, so that what this version does not know is kept.

use serde_json::{Map, Value, json};
use sfdata_common::{ids::CommandId, limits, outcome::FailureCode};

use crate::services::Error;

/// The statement that denies what does not come over TLS.
pub(super) const TLS_ONLY: &str = "SfdataTlsOnly";

/// The statement that lets the core account read what is shared.
pub(super) const SHARE: &str = "SfdataShare";

/// Statements that put a prefix in quarantine begin so; the id of the command that did it follows, without hyphens.
const QUARANTINE: &str = "SfdataQuarantine";

/// A bucket's policy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    /// All but the statements: version and id.
    head: Map<String, Value>,
    statements: Vec<Value>,
}

impl Document {
    /// For a bucket that has none.
    pub(super) fn empty() -> Self {
        let head = Map::from_iter([("Version".to_owned(), json!("2012-10-17"))]);
        Self { head, statements: Vec::new() }
    }

    /// The policy of a bucket, as S3 has it.
    pub(super) fn parse(bucket: &str, text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| {
            let text = format!("the policy of bucket {bucket} {what}; correct it at S3");
            Error::failed(FailureCode::Rejected, text)
        };
        let Ok(Value::Object(mut head)) = serde_json::from_str(text) else { return Err(wrong("is no JSON object")) };
        let statements = match head.shift_remove("Statement") {
            Some(Value::Array(several)) => several,
            Some(one) => vec![one],
            None => Vec::new(),
        };
        match statements.iter().all(Value::is_object) {
            true => Ok(Self { head, statements }),
            false => Err(wrong("has a statement that is no JSON object")),
        }
    }

    /// The text for S3, `None` where no statement is left: S3 takes no empty policy.
    pub(super) fn encode(&self, bucket: &str) -> Result<Option<String>, Error> {
        if self.statements.is_empty() {
            return Ok(None);
        }
        let mut whole = self.head.clone();
        whole.insert("Statement".to_owned(), Value::from(self.statements.clone()));
        let text = Value::from(whole).to_string();
        if text.len() > limits::BUCKET_POLICY_BYTES {
            let (size, most) = (text.len(), limits::BUCKET_POLICY_BYTES);
            let text = format!(
                "the policy of bucket {bucket} would have {size} bytes, and S3 takes at most {most} (20 KB); take \
                 statements away first"
            );
            return Err(Error::failed(FailureCode::Rejected, text));
        }
        Ok(Some(text))
    }

    /// The statement with this Sid.
    pub(super) fn statement(&self, sid: &str) -> Option<&Value> {
        self.statements.iter().find(|statement| statement["Sid"] == sid)
    }

    /// Have this statement, in the place of the one with its Sid.
    pub(super) fn put(&mut self, statement: Value) {
        match self.statements.iter_mut().find(|there| there["Sid"] == statement["Sid"]) {
            Some(there) => *there = statement,
            None => self.statements.push(statement),
        }
    }

    /// Have no statement with this Sid.
    pub(super) fn remove(&mut self, sid: &str) {
        self.statements.retain(|statement| statement["Sid"] != sid);
    }

    /// Our statements that put a prefix in quarantine: what they are called, and the prefix.
    pub(super) fn quarantines(&self, bucket: &str) -> Vec<(&str, &str)> {
        let begin = format!("arn:aws:s3:::{bucket}/");
        let each = self.statements.iter().filter_map(|one| {
            let sid = one["Sid"].as_str().filter(|sid| sid.starts_with(QUARANTINE))?;
            let resource = one["Resource"].as_str().or_else(|| one["Resource"][0].as_str())?;
            Some((sid, resource.strip_prefix(&begin)?.strip_suffix('*')?))
        });
        each.collect()
    }

    /// Why S3 takes no such policy, where principals in it are gone.
    pub(super) fn gone(&self, bucket: &str) -> Option<Error> {
        let why = "a principal in it was deleted, and S3 takes no policy with such a one";
        unwritable(bucket, &self.with_principals_gone(), why)
    }

    /// Why S3 takes no such policy where the public is blocked.
    pub(super) fn public(&self, bucket: &str) -> Option<Error> {
        let why = "it lets in everybody, which the public access block forbids";
        unwritable(bucket, &self.that_let_in_everybody(false), why)
    }

    /// Statements with a principal that is gone: S3 shows its id in place of its ARN, and takes no policy with it.
    fn with_principals_gone(&self) -> Vec<String> {
        let known = |name: &str| {
            name == "*"
                || name.starts_with("arn:")
                || (name.len() == 12 && name.bytes().all(|one| one.is_ascii_digit()))
        };
        let gone = |principal: &Value| named(&principal["AWS"]).into_iter().any(|name| !known(name));
        self.called(|one| gone(&one["Principal"]) || gone(&one["NotPrincipal"]))
    }

    /// Statements that let in everybody; those with a condition may not, which only S3 can tell.
    pub(super) fn that_let_in_everybody(&self, conditional: bool) -> Vec<String> {
        let everybody = |principal: &Value| [principal, &principal["AWS"]].iter().any(|who| named(who).contains(&"*"));
        self.called(|one| {
            one["Effect"] == "Allow" && everybody(&one["Principal"]) && (conditional || one.get("Condition").is_none())
        })
    }

    /// Sids of statements, or places where there is none.
    fn called(&self, which: impl Fn(&Value) -> bool) -> Vec<String> {
        let each = self.statements.iter().enumerate().filter(|(_, one)| which(one));
        let called = |(at, one): (usize, &Value)| match one["Sid"].as_str() {
            Some(sid) => sid.to_owned(),
            None => format!("statement {}", at + 1),
        };
        each.map(called).collect()
    }

    /// What else lets in the account of this role, or everybody: Sids, or places where there is none.
    pub(super) fn others_that_let_in(&self, role: &str) -> Vec<String> {
        let account = role.split(':').nth(4).filter(|account| !account.is_empty());
        let names = |principal: &Value| {
            let text = principal.to_string();
            text.contains("\"*\"") || account.is_some_and(|account| text.contains(account))
        };
        self.called(|one| one["Effect"] == "Allow" && one["Sid"] != SHARE && names(&one["Principal"]))
    }
}

/// Nobody may do anything to the bucket but over TLS.
pub(super) fn tls_only(bucket: &str) -> Value {
    json!({
        "Sid": TLS_ONLY,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": whole(bucket),
        "Condition": { "Bool": { "aws:SecureTransport": "false" } },
    })
}

/// This role, and nobody else, may list and read what is in the bucket.
pub(super) fn share(bucket: &str, reader: &str) -> Value {
    json!({
        "Sid": SHARE,
        "Effect": "Allow",
        "Principal": { "AWS": reader },
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": whole(bucket),
    })
}

/// Nobody, the account's own people and the agent included, may read, write or delete what begins so: neither an object nor
/// its versions, tags and lists. Only names can still be listed, and only the policy itself can take it back. S3's own
/// lifecycle goes on; copies in other buckets are other objects.
pub(super) fn quarantine(bucket: &str, prefix: &str, sid: &str) -> Value {
    json!({
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:DeleteObject*", "s3:GetObject*", "s3:PutObject*"],
        "Resource": format!("arn:aws:s3:::{bucket}/{prefix}*"),
    })
}

/// What a quarantine that this command begins is called.
pub(super) fn quarantine_sid(command: CommandId) -> String {
    format!("{QUARANTINE}{}", command.to_string().replace('-', ""))
}

/// The command that began the quarantine of this name.
pub(super) fn quarantine_command(sid: &str) -> Option<String> {
    let id = sid.strip_prefix(QUARANTINE).filter(|id| id.len() == 32 && id.is_ascii())?;
    let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
    parts.join("-").parse::<CommandId>().ok().map(|id| id.to_string())
}

fn unwritable(bucket: &str, statements: &[String], why: &str) -> Option<Error> {
    let text = format!(
        "cannot write the policy of bucket {bucket} because of {}: {why}; remove these at S3 first",
        statements.join(", ")
    );
    (!statements.is_empty()).then(|| Error::failed(FailureCode::Rejected, text))
}

/// One name or several.
fn named(names: &Value) -> Vec<&str> {
    match names {
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

fn whole(bucket: &str) -> Value {
    json!([format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")])
}

/// Whether two statements say the same: the order of a list is nothing, nor is a list around a single value, and truth
/// may be written as a text (IAM user guide, "Grammar of the IAM JSON policy language").
pub(super) fn same(one: &Value, other: &Value) -> bool {
    fn plain(value: &Value) -> Value {
        match value {
            Value::Array(values) => {
                let mut values: Vec<Value> = values.iter().map(plain).collect();
                values.sort_by_key(Value::to_string);
                values.dedup();
                if values.len() == 1 { values.remove(0) } else { values.into() }
            }
            // Equality of objects does not look at the order of their keys.
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
            Value::Bool(truth) => truth.to_string().into(),
            other => other.clone(),
        }
    }
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = r#"{"Version":"2008-10-17","Id":"x","Statement":{"Sid":"Theirs","Effect":"Allow","Principal":{"AWS":"a"},"Action":["s3:Get*"],"Resource":"r","NewField":[1.0]}}"#;

    #[test]
    fn a_statement_that_is_no_object_is_refused_and_not_written_back_as_something_else() {
        for text in [r#"{"Statement":9223372036854742949672955807}"#, r#"{"Statement":[{"Sid":"a"},true]}"#] {
            let error = Document::parse("b", text).unwrap_err();
            assert!(error.to_string().contains("no JSON object"), "{error}");
        }
    }

    #[test]
    fn the_statements_of_others_stay_as_they_are() {
        let mut document = Document::parse("b", THEIRS).unwrap();
        document.put(tls_only("b"));
        document.put(tls_only("b"));
        let text = document.encode("b").unwrap().unwrap();
        let inner = THEIRS.trim_end_matches('}').split_once("\"Statement\":").unwrap().1;
        assert!(
            text.contains(inner) && text.starts_with(r#"{"Version":"2008-10-17","Id":"x","Statement":["#),
            "{text}"
        );
        assert_eq!(text.matches(TLS_ONLY).count(), 1);
        assert_eq!(Document::parse("b", &text).unwrap(), document);
        assert_eq!(Document::empty().encode("b").unwrap(), None);
        for odd in ["", "[]", "nonsense"] {
            assert!(Document::parse("b", odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_statement_is_the_same_however_it_is_written() {
        let written = r#"{"Effect":"Deny","Sid":"SfdataTlsOnly","Principal":["*"],"Action":["s3:*"],
            "Resource":["arn:aws:s3:::b/*","arn:aws:s3:::b"],"Condition":{"Bool":{"aws:SecureTransport":[false]}}}"#;
        let read: Value = serde_json::from_str(written).unwrap();
        assert!(same(&read, &tls_only("b")));
        assert!(!same(&read, &tls_only("c")));
        let mut weaker = read;
        weaker["Condition"]["Bool"]["aws:SecureTransport"] = "true".into();
        assert!(!same(&weaker, &tls_only("b")));
    }

    #[test]
    fn what_else_lets_the_core_account_in_is_told() {
        let reader = "arn:aws:iam::111111111111:role/core";
        let text = json!({ "Statement": [
            share("b", reader),
            { "Effect": "Allow", "Principal": { "AWS": ["arn:aws:iam::111111111111:root", "x"] } },
            { "Sid": "All", "Effect": "Allow", "Principal": "*" },
            { "Sid": "Own", "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::222222222222:root" } },
            { "Sid": "No", "Effect": "Deny", "Principal": "*" },
        ] });
        let mut document = Document::parse("b", &text.to_string()).unwrap();
        assert_eq!(document.others_that_let_in(reader), ["statement 2", "All"]);
        document.remove(SHARE);
        assert_eq!(document.statement(SHARE), None);
        assert_eq!(document.others_that_let_in(""), ["All"]);
    }

    #[test]
    fn statements_that_s3_takes_no_more_are_told_by_their_names() {
        let text = json!({ "Statement": [
            share("b", "arn:aws:iam::111111111111:role/core"),
            { "Sid": "Gone", "Effect": "Allow", "Principal": { "AWS": ["arn:aws:iam::111111111111:root", "AROAX"] } },
            { "Effect": "Deny", "NotPrincipal": { "AWS": "AIDAX" } },
            { "Effect": "Allow", "Principal": { "AWS": "111111111111", "Service": "logging.s3.amazonaws.com" } },
            { "Sid": "All", "Effect": "Allow", "Principal": { "AWS": ["*"] } },
            { "Sid": "Network", "Effect": "Allow", "Principal": "*", "Condition": {} },
            tls_only("b"),
        ] });
        let document = Document::parse("b", &text.to_string()).unwrap();
        assert_eq!(document.with_principals_gone(), ["Gone", "statement 3"]);
        assert_eq!(document.that_let_in_everybody(false), ["All"]);
        assert_eq!(document.that_let_in_everybody(true), ["All", "Network"]);
    }

    #[test]
    fn a_quarantine_is_found_again_by_its_prefix_and_tells_its_command() {
        let (id, mut document) = (CommandId::generate(), Document::parse("b", THEIRS).unwrap());
        let sid = quarantine_sid(id);
        document.put(quarantine("b", "in/2024", &sid));
        let read = Document::parse("b", &document.encode("b").unwrap().unwrap()).unwrap();
        assert_eq!(read.quarantines("b"), [(sid.as_str(), "in/2024")]);
        assert_eq!(quarantine_command(&sid), Some(id.to_string()));
        assert_eq!(quarantine_command("SfdataQuarantineOfSomebody"), None);
        assert!(read.quarantines("c").is_empty());
    }

    #[test]
    fn a_policy_that_s3_would_not_take_is_told_by_its_bound() {
        let mut document = Document::empty();
        document.put(json!({ "Sid": "x".repeat(limits::BUCKET_POLICY_BYTES) }));
        let told = document.encode("b").unwrap_err().to_string();
        assert!(told.contains("20480") && told.contains("20 KB"), "{told}");
    }
}
