//! Joining: what a token is good for, how often, for whom and until when.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use sfdata_agent::identity;
use sfdata_common::{
    Timestamp,
    channel::{self, SharedTls},
    join::{self, Subject as Bearer},
    keys::{SigningKey, sha256},
    limits,
    tls::{self, Knows, TlsKey},
};
use sfdata_hub::store::{Batch, Store, keys, records};
use sfdata_proto::v1::{self as wire, enrol_request::Subject, enrol_service_client::EnrolServiceClient};
use sfdata_tests::{fleet::Fleet, operator::Operator, wire::Wire};
use tonic::{Code, Status};

const ACCOUNT: &str = "300000000000";

fn pinned(token: &wire::JoinToken) -> SharedTls {
    let knows = Knows::Pin { ca: &token.ca_pin, trust_domain: &token.trust_domain };
    Arc::new(arc_swap::ArcSwap::new(tls::client(None, knows).expect("a client")))
}

fn an_agent(account: &str) -> Subject {
    let receipt_key = SigningKey::generate().expect("a key").public().as_bytes().to_vec().into();
    Subject::Agent(wire::EnrollingAgent {
        account: account.into(),
        receipt_key,
        version: "test".into(),
        ..Default::default()
    })
}

fn an_operator() -> Subject {
    Subject::Operator(wire::EnrollingOperator {})
}

fn request(token: &wire::JoinToken, subject: Subject) -> wire::EnrolRequest {
    let csr_der = TlsKey::generate().and_then(|key| key.request()).expect("a request").into();
    wire::EnrolRequest { secret: token.secret.clone(), csr_der, subject: Some(subject) }
}

async fn enrol(token: &wire::JoinToken, subject: Subject) -> Result<wire::EnrolResponse, Status> {
    send(token, request(token, subject)).await
}

async fn send(token: &wire::JoinToken, request: wire::EnrolRequest) -> Result<wire::EnrolResponse, Status> {
    let channel = channel::open(&token.enrol_address, pinned(token));
    EnrolServiceClient::new(channel).enrol(request).await.map(tonic::Response::into_inner)
}

async fn operators_token(fleet: &Fleet, name: &str) -> String {
    let request = wire::InviteOperatorRequest { name: name.into() };
    fleet.alice.client.clone().invite_operator(request).await.expect("an invitation").into_inner().token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in_whom_it_was_made_for_and_only_once() {
    let fleet = Fleet::without_aws(0).await;
    let text = fleet.invite("camden", ACCOUNT).await.unwrap();
    let token = join::decode(&text).unwrap();
    let operators = operators_token(&fleet, "bob").await;
    let for_bob = join::decode(&operators).unwrap();
    let refused = async |token: &wire::JoinToken, request: wire::EnrolRequest, word: &str| {
        let status = send(token, request).await.unwrap_err();
        assert!(matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument), "{status}");
        assert!(status.message().contains(word), "{status}");
    };

    // None of these uses it up.
    refused(&token, request(&token, an_agent("300000000001")), "account").await;
    refused(&token, request(&token, an_operator()), "another kind").await;
    refused(&for_bob, request(&for_bob, an_agent(ACCOUNT)), "another kind").await;
    refused(&token, wire::EnrolRequest { subject: None, ..request(&token, an_operator()) }, "another kind").await;
    let stranger = wire::EnrolRequest { secret: vec![7; 32].into(), ..request(&token, an_agent(ACCOUNT)) };
    refused(&token, stranger, "not known").await;
    // Its digest, which is all that the hub keeps, is not the secret.
    let digest =
        wire::EnrolRequest { secret: sha256(&token.secret).to_vec().into(), ..request(&token, an_agent(ACCOUNT)) };
    refused(&token, digest, "not known").await;
    refused(
        &token,
        wire::EnrolRequest { csr_der: vec![0x30, 0].into(), ..request(&token, an_agent(ACCOUNT)) },
        "request",
    )
    .await;
    let no_receipt_key = wire::EnrollingAgent { account: ACCOUNT.into(), ..Default::default() };
    refused(&token, request(&token, Subject::Agent(no_receipt_key)), "receipt key").await;

    // The agent itself sees most of that before it asks.
    let folder = fleet.folder.path().join("camden");
    let by_agent = async |text: &str, account: &str| identity::enrol(&folder, text, account, Timestamp::now()).await;
    assert!(matches!(by_agent(&operators, ACCOUNT).await, Err(identity::Error::OperatorToken)));
    assert!(matches!(by_agent(&text, "300000000001").await, Err(identity::Error::Account { .. })));

    assert_eq!(by_agent(&text, ACCOUNT).await.unwrap().as_str(), "camden");
    refused(&token, request(&token, an_agent(ACCOUNT)), "used already").await;
    assert!(matches!(by_agent(&text, ACCOUNT).await, Err(identity::Error::Present(_))));
    let bob = Operator::join("bob", SigningKey::generate().unwrap(), &operators).await.unwrap();
    refused(&for_bob, request(&for_bob, an_operator()), "used already").await;
    drop(bob);

    // Eight at once with one token: one gets in.
    let token = join::decode(&fleet.invite("barnet", ACCOUNT).await.unwrap()).unwrap();
    let tries = futures::future::join_all((0..8).map(|_| enrol(&token, an_agent(ACCOUNT)))).await;
    assert_eq!(tries.iter().filter(|joined| joined.is_ok()).count(), 1, "{tries:?}");

    // An id keeps its account.
    assert!(fleet.invite("camden", "300000000001").await.is_err());
    let joined: Vec<String> = fleet
        .alice
        .audit()
        .await
        .unwrap()
        .into_iter()
        .filter(|e| e.kind == "agent.joined")
        .map(|e| e.subject)
        .collect();
    assert_eq!(joined, ["agent/camden", "agent/barnet"]);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_other_pins_leads_nowhere() {
    let fleet = Fleet::without_aws(0).await;
    let token = join::decode(&fleet.invite("camden", ACCOUNT).await.unwrap()).unwrap();
    let folder = fleet.folder.path().join("camden");
    let by_agent = async |token: wire::JoinToken| {
        identity::enrol(&folder, &join::encode(&token).to_string(), ACCOUNT, Timestamp::now()).await
    };
    // Somebody else's hub: its CA is not the one that is pinned, and it learns no secret.
    let wrong_ca = by_agent(wire::JoinToken { ca_pin: vec![7; 32].into(), ..token.clone() }).await;
    assert!(matches!(wrong_ca, Err(identity::Error::Refused { .. })));
    let wrong_domain = by_agent(wire::JoinToken { trust_domain: "other.example".into(), ..token.clone() }).await;
    assert!(matches!(wrong_domain, Err(identity::Error::Refused { .. })));
    // A hub that hands out a bundle of its own making.
    let wrong_root = by_agent(wire::JoinToken { root_pin: vec![7; 32].into(), ..token.clone() }).await;
    assert!(matches!(wrong_root, Err(identity::Error::Trust(_))));
    assert!(!identity::Identity::exists(&folder));
    // A token that pins no root keys at all does not mean that any will do.
    let token = join::decode(&fleet.invite("camden", ACCOUNT).await.unwrap()).unwrap();
    let no_root = by_agent(wire::JoinToken { root_pin: Default::default(), ..token }).await;
    assert!(matches!(no_root, Err(identity::Error::Trust(_))));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_and_one_for_a_locked_or_removed_agent_are_refused() {
    let mut fleet = Fleet::without_aws(1).await;
    let expired = join::decode(&fleet.invite("camden", ACCOUNT).await.unwrap()).unwrap();
    let locked = join::decode(&fleet.invite("la-0", "200000000000").await.unwrap()).unwrap();
    let removed = join::decode(&fleet.invite("barnet", ACCOUNT).await.unwrap()).unwrap();
    fleet.alice.lock(&fleet.agents[0].id).await.unwrap();
    let remove = wire::RemoveAgentRequest { agent_id: "barnet".into(), reason: "a test".into() };
    fleet.alice.client.clone().remove_agent(remove).await.unwrap();

    // An hour goes by.
    fleet.stop_hub().await;
    let store = Store::open(&fleet.hub_config.data_dir, Default::default()).unwrap();
    let key = keys::token(&sha256(&expired.secret));
    let mut record: records::Token = store.get(&key).unwrap().expect("kept by its digest");
    record.expires -= limits::JOIN_TOKEN.as_millis() as i64;
    let mut batch = Batch::default();
    batch.put(key, &record);
    store.commit(batch).await.unwrap();
    store.close().await;
    drop(store);
    fleet.start_hub().await;

    for (token, account, word) in
        [(&expired, ACCOUNT, "expired"), (&locked, "200000000000", "locked"), (&removed, ACCOUNT, "not known")]
    {
        let status = enrol(token, an_agent(account)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains(word), "{status}");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_may_try_so_often_in_a_minute_and_others_are_not_held_up() {
    let fleet = Fleet::without_aws(0).await;
    let token = join::decode(&fleet.invite("camden", ACCOUNT).await.unwrap()).unwrap();
    let cable = Wire::from_to(Ipv4Addr::new(127, 0, 0, 2), fleet.hub_config.listen.enrol).await.unwrap();
    let mut guesser = EnrolServiceClient::new(channel::open(&cable.address.to_string(), pinned(&token)));
    for _ in 0..limits::ENROLMENTS_PER_MINUTE {
        let guess = wire::EnrolRequest { secret: vec![7; 32].into(), ..request(&token, an_agent(ACCOUNT)) };
        assert_eq!(guesser.enrol(guess).await.unwrap_err().code(), Code::PermissionDenied);
    }
    let status = guesser.enrol(request(&token, an_agent(ACCOUNT))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    enrol(&token, an_agent(ACCOUNT)).await.unwrap();

    // More than any request has is not even read.
    let mut large = request(&token, an_operator());
    large.csr_der = vec![0; limits::ENROL_MESSAGE_BYTES].into();
    assert_eq!(send(&token, large).await.unwrap_err().code(), Code::OutOfRange);
    assert!(matches!(token.subject, Some(Bearer::Agent(_))));
    tokio::time::timeout(Duration::from_secs(30), fleet.stop()).await.unwrap();
}
