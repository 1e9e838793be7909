//! Who signed, as STS tells it: the one answer to GetCallerIdentity, read strictly. Pure.
//!
//! Invariants: each of the three facts is there once, in its place; the ARN, the unique id and the account agree. Anything
//! that XML can do beside elements and plain text (entities, DTDs, CDATA, comments) is refused.

use sfdata_common::{
    ids::{AccountId, RoleName},
    limits,
};
use xmlparser::{ElementEnd, Token, Tokenizer};

const ROOT: &str = "GetCallerIdentityResponse";
const RESULT: &str = "GetCallerIdentityResult";
const FACTS: [&str; 3] = ["Arn", "UserId", "Account"];

/// Why an answer tells nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    /// Not XML, or more of it than STS writes.
    #[error("it is not the plain XML that STS writes")]
    Xml,
    /// One of the facts is missing, is there twice, or stands elsewhere.
    #[error("{0} is not there exactly once, in its place")]
    Fact(&'static str),
    /// The account is none.
    #[error("its account is not 12 digits")]
    Account,
    /// A user, the root user, a federated user: whatever is no role.
    #[error("{0:?} is no role: an agent joins with the role of its task, not with a user's keys")]
    NotARole(String),
    /// ARN, unique id and account are not of one caller.
    #[error("its ARN, unique id and account are not of one caller")]
    Disagrees,
}

/// A role, as STS knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose.
    pub account: AccountId,
    /// Without its path, which STS does not tell.
    pub role: RoleName,
    /// `AROA…`; a role made anew has another.
    pub role_id: String,
    /// What the role was taken on as: in ECS the task's id.
    pub session: String,
}

/// Read STS's answer.
pub fn read(reply: &[u8]) -> Result<Caller, Odd> {
    let text = std::str::from_utf8(reply).map_err(|_| Odd::Xml)?;
    let mut facts: [Option<String>; 3] = Default::default();
    walk(text, |path, value| {
        let Some(at) = FACTS.iter().position(|fact| path.last() == Some(fact)) else { return Ok(()) };
        if path != [ROOT, RESULT, FACTS[at]] || facts[at].is_some() {
            return Err(Odd::Fact(FACTS[at]));
        }
        facts[at] = Some(value.to_owned());
        Ok(())
    })?;
    let mut fact = |at: usize| facts[at].take().ok_or(Odd::Fact(FACTS[at]));
    caller(&fact(0)?, &fact(1)?, &fact(2)?)
}

fn caller(arn: &str, user_id: &str, account: &str) -> Result<Caller, Odd> {
    let account: AccountId = account.parse().map_err(|_| Odd::Account)?;
    let not_a_role = || Odd::NotARole(arn.chars().take(200).collect());
    // arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION (IAM user guide, "IAM identifiers")
    let rest = arn.strip_prefix("arn:aws:sts::").ok_or_else(not_a_role)?;
    let (of, name) = rest.split_once(":assumed-role/").ok_or_else(not_a_role)?;
    let (role, session) = name.split_once('/').ok_or_else(not_a_role)?;
    let role: RoleName = role.parse().map_err(|_| not_a_role())?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
    if session.is_empty() || !session.bytes().all(legal) {
        return Err(not_a_role());
    }
    let (role_id, of_session) = user_id.split_once(':').ok_or(Odd::Disagrees)?;
    let is_id = role_id.len() >= 16 && role_id.len() <= 128 && role_id.starts_with("AROA");
    let is_id = is_id && role_id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if of != account.as_str() || of_session != session || !is_id {
        return Err(Odd::Disagrees);
    }
    Ok(Caller { account, role, role_id: role_id.to_owned(), session: session.to_owned() })
}

/// AWS's code of an answer that is an error, where there is one.
pub fn code(reply: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(reply).ok()?;
    let mut code = None;
    let found = walk(text, |path, value| {
        if path.ends_with(&["Error", "Code"]) {
            code = Some(value.to_owned());
        }
        Ok(())
    });
    let legal = |code: &String| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    found.ok().and(code).filter(legal)
}

/// Give the path and the text of every element that holds text.
fn walk<'a>(text: &'a str, mut take: impl FnMut(&[&str], &'a str) -> Result<(), Odd>) -> Result<(), Odd> {
    let mut path: Vec<&'a str> = Vec::new();
    let mut ended = false;
    for token in Tokenizer::from(text) {
        match token.map_err(|_| Odd::Xml)? {
            Token::Declaration { .. } if path.is_empty() && !ended => {}
            Token::ElementStart { prefix, local, .. } => {
                if ended || !prefix.is_empty() || path.len() == limits::STS_REPLY_DEPTH {
                    return Err(Odd::Xml);
                }
                path.push(local.as_str());
            }
            // Its name space, at the root.
            Token::Attribute { prefix, local, .. }
                if path.len() == 1 && prefix.is_empty() && local.as_str() == "xmlns" => {}
            Token::ElementEnd { end: ElementEnd::Open, .. } => {}
            Token::ElementEnd { end: ElementEnd::Close(prefix, local), .. } => {
                if !prefix.is_empty() || path.pop() != Some(local.as_str()) {
                    return Err(Odd::Xml);
                }
                ended = path.is_empty();
            }
            Token::ElementEnd { end: ElementEnd::Empty, .. } => {
                path.pop();
                ended = path.is_empty();
            }
            Token::Text { text } if text.as_str().trim().is_empty() => {}
            Token::Text { text } if !path.is_empty() && !text.as_str().contains('&') => take(&path, text.as_str())?,
            _ => return Err(Odd::Xml),
        }
    }
    if ended { Ok(()) } else { Err(Odd::Xml) }
}
