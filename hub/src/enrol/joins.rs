//! How often an agent has joined, and what that says: each join gives it a signed count, which it hands over when it joins
//! again. Who comes with an older one is a second instance, made of a copy of its folder. Pure, but for signing.
//!
//! Invariants: the count in the registry only rises; an answer that was lost on its way is given again to the same key, and
//! to no other, so that a bad network never looks like a clone.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    dispatch::JOINED_PAYLOAD_TYPE,
    envelope,
    ids::{AccountId, AgentId, RoleName},
    keys::PublicKey,
    peer::Subject,
};
use sfdata_proto::v1 as wire;

use super::iam::reply::Caller;
use crate::{
    metrics::Metrics,
    signer::{self, Signer},
    store::records,
};

/// An agent that joins, once it is known who it is.
pub struct Join {
    /// Public half of its receipt key.
    pub receipt_key: Bytes,
    /// As it tells.
    pub version: String,
    /// Digest of the public key that its certificate is for.
    pub key: [u8; 32],
    /// By what right.
    pub right: Right,
}

/// By what right an agent joins.
pub enum Right {
    /// An invitation: an admin's word, which stands over every count.
    Token,
    /// Its AWS identity.
    Aws {
        /// As STS tells it.
        caller: Caller,
        /// The count that it handed over, if it has one.
        told: Option<u64>,
    },
}

/// Who was let in, durably, and what they get.
pub struct Admitted {
    /// Who.
    pub subject: Subject,
    /// Leaf first, then its issuer, in DER.
    pub certificates: Vec<Vec<u8>>,
    /// An agent's signed count.
    pub joined: Option<wire::Envelope>,
}

/// Why an agent does not join, although it is who it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Locked out.
    #[error("agent {0} is locked")]
    Locked(AgentId),
    /// Nobody who may.
    #[error("agent {0} is not registered to join by AWS identity; an admin does that: hubctl agents register")]
    NotRegistered(AgentId),
    /// Somebody else's account.
    #[error("agent {agent} is registered for AWS account {expected}, and the request was signed in {found}")]
    OtherAccount {
        /// Who.
        agent: AgentId,
        /// Registered.
        expected: String,
        /// As STS tells.
        found: AccountId,
    },
    /// Another role of the account.
    #[error("agent {agent} is registered as role {expected}, and the request was signed as {found}")]
    OtherRole {
        /// Who.
        agent: AgentId,
        /// Registered.
        expected: String,
        /// As STS tells.
        found: RoleName,
    },
    /// The same name, and another role.
    #[error(
        "the role has the unique id {found}, and {pinned} joined before: it was deleted and made anew. If that is right: \
         hubctl agents register {agent} --again"
    )]
    OtherRoleId {
        /// Who.
        agent: AgentId,
        /// At the first join.
        pinned: String,
        /// Now.
        found: String,
    },
    /// It has joined before, and does not show it.
    #[error(
        "agent {agent} has joined before, and its folder does not show it: data_dir was lost, or this is a second instance. \
         If it was lost: hubctl agents register {agent} --again"
    )]
    NoCount {
        /// Who.
        agent: AgentId,
    },
    /// An old count.
    #[error(
        "agent {agent} has joined {known} times, and this instance knows of {told}: there are two, and the agent is locked"
    )]
    Clone {
        /// Who.
        agent: AgentId,
        /// In the registry.
        known: u64,
        /// Handed over.
        told: u64,
    },
}

/// What the registry says after a join. The count of a join whose answer is given again stays.
pub fn decide(agent: &AgentId, known: &records::Agent, join: &Join, now: Timestamp) -> Result<records::Agent, Refusal> {
    if known.locked.is_some() {
        return Err(Refusal::Locked(agent.clone()));
    }
    let mut record = known.clone();
    let told = match &join.right {
        Right::Token => known.joins,
        Right::Aws { caller, told } => {
            record.role_id = is_registered(agent, known, caller)?;
            told.unwrap_or_default()
        }
    };
    let repeated = known.joins > 0 && known.join_key == join.key.as_slice() && known.joined_after == told;
    if !repeated {
        match &join.right {
            Right::Aws { .. } if now.as_millisecond() < known.join_anew_until => {}
            Right::Aws { told: None, .. } if known.joins > 0 => return Err(Refusal::NoCount { agent: agent.clone() }),
            Right::Aws { .. } if told < known.joins => {
                return Err(Refusal::Clone { agent: agent.clone(), known: known.joins, told });
            }
            Right::Token | Right::Aws { .. } => {}
        }
        // One that is ahead of us has joined a hub that was restored from an older backup since.
        record.joins = known.joins.max(told) + 1;
        record.joined_after = told;
        record.join_key = Bytes::copy_from_slice(&join.key);
        record.since = now.as_millisecond();
    }
    record.join_anew_until = 0; // an admin's word lets in once
    record.receipt_key = join.receipt_key.clone();
    record.version = join.version.clone();
    Ok(record)
}

/// The unique id of the caller's role, where account, role and id are those that are registered and pinned.
fn is_registered(agent: &AgentId, known: &records::Agent, caller: &Caller) -> Result<String, Refusal> {
    let agent = || agent.clone();
    if known.role.is_empty() {
        return Err(Refusal::NotRegistered(agent()));
    }
    if known.account != caller.account.as_str() {
        let (expected, found) = (known.account.clone(), caller.account.clone());
        return Err(Refusal::OtherAccount { agent: agent(), expected, found });
    }
    if known.role != caller.role.as_str() {
        return Err(Refusal::OtherRole { agent: agent(), expected: known.role.clone(), found: caller.role.clone() });
    }
    if !known.role_id.is_empty() && known.role_id != caller.role_id {
        let (pinned, found) = (known.role_id.clone(), caller.role_id.clone());
        return Err(Refusal::OtherRoleId { agent: agent(), pinned, found });
    }
    Ok(caller.role_id.clone())
}

/// An agent's version as it is kept.
pub fn version(told: &str) -> String {
    told.chars().take(40).collect()
}

/// The hub's word on a count.
pub async fn sign(
    trust_domain: &str,
    agent: &AgentId,
    counter: u64,
    signer: &Signer,
    metrics: &Metrics,
    now: Timestamp,
) -> Result<wire::Envelope, signer::Error> {
    let joined = wire::Joined {
        trust_domain: trust_domain.to_owned(),
        agent_id: agent.to_string(),
        counter,
        joined_unix_ms: now.as_millisecond(),
    };
    signer.seal(JOINED_PAYLOAD_TYPE, joined.encode_to_vec(), metrics).await
}

/// The count that an agent hands over, if one of `keys` signed it for that agent.
pub fn told(envelope: &wire::Envelope, trust_domain: &str, agent: &AgentId, keys: &[PublicKey]) -> Option<u64> {
    if envelope::count_signers(envelope, JOINED_PAYLOAD_TYPE, keys) == 0 {
        return None;
    }
    let joined = wire::Joined::decode(&envelope.payload[..]).ok()?;
    (joined.trust_domain == trust_domain && joined.agent_id == agent.as_str()).then_some(joined.counter)
}

#[cfg(test)]
mod tests {
    use sfdata_common::keys::SigningKey;

    use super::*;

    fn camden() -> AgentId {
        "camden".parse().unwrap()
    }

    fn caller(role_id: &str) -> Caller {
        Caller {
            account: "222222222222".parse().unwrap(),
            role: "sfdata-agent".parse().unwrap(),
            role_id: role_id.into(),
            session: "0123".into(),
        }
    }

    /// Registered, and never joined.
    fn registered() -> records::Agent {
        records::Agent { account: "222222222222".into(), role: "sfdata-agent".into(), ..Default::default() }
    }

    fn aws(key: u8, told: Option<u64>) -> Join {
        let right = Right::Aws { caller: caller("AROAFIRST"), told };
        Join { receipt_key: Bytes::from_static(b"receipts"), version: "1".into(), key: [key; 32], right }
    }

    fn next(known: &records::Agent, join: &Join) -> Result<records::Agent, Refusal> {
        decide(&camden(), known, join, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn each_join_counts_and_an_old_count_is_a_clone() {
        let first = next(&registered(), &aws(1, None)).unwrap();
        assert_eq!((first.joins, first.role_id.as_str()), (1, "AROAFIRST"));
        let second = next(&first, &aws(2, Some(1))).unwrap();
        assert_eq!(second.joins, 2);
        // The original, whose copy was the second.
        assert_eq!(next(&second, &aws(3, Some(1))), Err(Refusal::Clone { agent: camden(), known: 2, told: 1 }));
        // The copy has the key of the last join as well.
        assert_eq!(next(&second, &aws(2, Some(0))), Err(Refusal::Clone { agent: camden(), known: 2, told: 0 }));
        assert_eq!(next(&second, &aws(3, None)), Err(Refusal::NoCount { agent: camden() }));
        assert_eq!(next(&second, &aws(2, None)), Err(Refusal::NoCount { agent: camden() }));
    }

    #[test]
    fn an_answer_that_was_lost_is_given_again_to_the_same_key_alone() {
        let first = next(&registered(), &aws(1, None)).unwrap();
        assert_eq!(next(&first, &aws(1, None)).unwrap().joins, 1);
        assert_eq!(next(&first, &aws(9, None)), Err(Refusal::NoCount { agent: camden() }));
        let second = next(&first, &aws(2, Some(1))).unwrap();
        assert_eq!(next(&second, &aws(2, Some(1))).unwrap(), second);
        assert_eq!(next(&second, &aws(9, Some(1))), Err(Refusal::Clone { agent: camden(), known: 2, told: 1 }));
        // And then it goes on.
        assert_eq!(next(&second, &aws(3, Some(2))).unwrap().joins, 3);
    }

    #[test]
    fn a_hub_that_was_restored_goes_on_from_what_it_once_said() {
        let first = next(&registered(), &aws(1, None)).unwrap();
        assert_eq!(next(&first, &aws(2, Some(7))).unwrap().joins, 8);
    }

    #[test]
    fn a_role_that_was_made_anew_is_refused_until_an_admin_says_again() {
        let mut first = next(&registered(), &aws(1, None)).unwrap();
        let other = |told| Join { right: Right::Aws { caller: caller("AROAOTHER"), told }, ..aws(2, None) };
        let refused = next(&first, &other(Some(1))).unwrap_err();
        assert!(
            matches!(&refused, Refusal::OtherRoleId { pinned, found, .. } if pinned == "AROAFIRST" && found == "AROAOTHER")
        );
        (first.role_id, first.join_anew_until) = (String::new(), 1);
        let second = next(&first, &other(None)).unwrap();
        assert_eq!((second.joins, second.role_id.as_str(), second.join_anew_until), (2, "AROAOTHER", 0));
        assert_eq!(next(&second, &Join { key: [3; 32], ..other(None) }), Err(Refusal::NoCount { agent: camden() }));
        // Also an old count, of the folder that was there before: an admin's word stands over it, once.
        let anew = records::Agent { join_anew_until: 1, ..second };
        let old = Join { key: [3; 32], ..other(Some(1)) };
        assert_eq!(next(&anew, &old).unwrap().joins, 3);
        let late = Timestamp::from_millisecond(1).unwrap();
        assert!(matches!(decide(&camden(), &anew, &old, late), Err(Refusal::Clone { .. })), "and not for ever");
        // It is used up by an answer that is given again, too.
        let again = Join { key: [2; 32], ..other(None) };
        let repeated = next(&anew, &again).unwrap();
        assert_eq!((repeated.joins, repeated.join_anew_until), (2, 0));
    }

    #[test]
    fn only_the_registered_account_and_role_join() {
        let others = records::Agent { account: "333333333333".into(), ..registered() };
        assert!(matches!(next(&others, &aws(1, None)), Err(Refusal::OtherAccount { .. })));
        let others = records::Agent { role: "Sfdata-agent".into(), ..registered() };
        assert!(matches!(next(&others, &aws(1, None)), Err(Refusal::OtherRole { .. })));
        let nobody = records::Agent { role: String::new(), ..registered() };
        assert_eq!(next(&nobody, &aws(1, None)), Err(Refusal::NotRegistered(camden())));
    }

    #[test]
    fn a_token_stands_over_every_count_and_a_lock_over_all() {
        let first = next(&registered(), &aws(1, None)).unwrap();
        let invited = Join { right: Right::Token, ..aws(2, None) };
        assert_eq!(next(&first, &invited).unwrap().joins, 2);
        let locked = records::Agent { locked: Some("lost".into()), ..first };
        assert_eq!(next(&locked, &invited), Err(Refusal::Locked(camden())));
        assert_eq!(next(&locked, &aws(2, Some(1))), Err(Refusal::Locked(camden())));
    }

    #[tokio::test]
    async fn a_count_holds_for_one_agent_of_one_hub() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let keys = [key.public()];
        let signer = Signer::from(key);
        let (agent, metrics) = (camden(), Metrics::default());
        let signed = sign("sfdata.example", &agent, 3, &signer, &metrics, Timestamp::UNIX_EPOCH);
        let envelope = signed.await.unwrap();
        assert_eq!(told(&envelope, "sfdata.example", &camden(), &keys), Some(3));
        assert_eq!(told(&envelope, "other.example", &camden(), &keys), None);
        assert_eq!(told(&envelope, "sfdata.example", &"barnet".parse().unwrap(), &keys), None);
        assert_eq!(told(&envelope, "sfdata.example", &camden(), &[other.public()]), None);
    }
}
