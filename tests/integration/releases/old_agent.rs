//! This release's hub with an agent of an older one, which joins, is given the recorded commands by an operator, and says of each
//! what the record has. It takes nothing that such an agent would refuse.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use sfdata_common::{
    channel,
    command::Command,
    ids::{AgentId, CommandId},
    keys::{PublicKey, SigningKey, sha256},
    outcome::Outcome,
    tls::{self, Identity, Knows, TlsKey},
    trust::Role,
};
use sfdata_proto::v1 as wire;
use sfdata_tests::{
    eventually,
    fleet::{Fleet, Options},
    process, raw,
    release::{Changes, ENROL, LINK, RENEW, Release, Said, Side, blob, blobs, get, number, set, text},
    web,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::{ACCOUNT, SOON, first, on_the_link, once};

/// The agent, with keys of its own.
struct OldAgent {
    release: Release,
    session: Vec<Said>,
    changes: Changes,
    receipt_key: SigningKey,
    /// By the bundle that it was given.
    dispatch_key: PublicKey,
    hub: Channel,
    out: mpsc::Sender<Bytes>,
    incoming: Streaming<Bytes>,
}

impl OldAgent {
    /// Join with a token, and connect.
    async fn joins(fleet: &Fleet, release: Release, token: &str) -> Self {
        let session = release.session().unwrap();
        let token = BASE64_URL_SAFE_NO_PAD.decode(token.strip_prefix("sfjoin_").expect("a token")).unwrap();
        let token = DynamicMessage::decode(release.message("JoinToken").unwrap(), &token[..]).unwrap();
        let (ca, trust_domain) = (blob(&token, "ca_pin"), text(&token, "trust_domain"));
        let tls = Arc::new(ArcSwap::new(tls::client(None, Knows::Pin { ca: &ca, trust_domain }).unwrap()));

        let (key, receipt_key) = (TlsKey::generate().unwrap(), SigningKey::generate().unwrap());
        let mut asked = once(&session, Side::Agent, ENROL);
        assert_eq!(text(&asked.message, "agent.account"), text(&token, "agent.account"));
        set(&mut asked.message, "secret", Value::Bytes(blob(&token, "secret")));
        set(&mut asked.message, "csr_der", Value::Bytes(key.request().unwrap().into()));
        let public = Bytes::copy_from_slice(receipt_key.public().as_bytes());
        set(&mut asked.message, "agent.receipt_key", Value::Bytes(public));
        let answer = raw::call(&channel::open(text(&token, "enrol_address"), tls), ENROL, asked.bytes()).await.unwrap();
        let answer = release.read(Side::Hub, ENROL, &answer.expect("an answer")).unwrap();

        let bundle = answer.at("trust_bundle");
        assert!(answer.holds("trust_bundle", &fleet.root.public()), "{bundle}");
        let [dispatch_key, ca] = ["dispatch_keys", "ca_certificates"].map(|place| blobs(bundle, place)[0].to_vec());
        let dispatch_key = PublicKey::from_bytes(&dispatch_key).expect("a key");
        assert!(answer.holds("joined", &dispatch_key) && number(answer.at("joined"), "counter") == 1, "{answer:?}");
        assert_eq!(number(&answer.message, "epoch"), 1);

        let chain = blobs(&answer.message, "certificates").iter().map(|der| der.to_vec()).collect();
        let (identity, cas) = (Identity::new(chain, &key).unwrap(), vec![ca]);
        let knows = Knows::Cas { certificates: &cas, trust_domain };
        let tls = Arc::new(ArcSwap::new(tls::client(Some(&identity), knows).unwrap()));
        let hub = channel::open(text(&token, "address"), tls);
        let (out, messages) = mpsc::channel(16);
        let incoming = raw::open(&hub, LINK, ReceiverStream::new(messages)).await.unwrap();
        let changes = Changes::default();
        let mut agent = Self { release, session, changes, receipt_key, dispatch_key, hub, out, incoming };

        let hello = first(&agent.session, Side::Agent, "hello");
        agent.changes.now_is(get(&hello.message, "hello.clock_unix_ms").expect("a clock"));
        agent.says(hello).await;
        let welcome = agent.hears("welcome").await;
        for field in ["clock_unix_ms", "epoch", "health_interval_seconds"] {
            assert!(get(&welcome.message, &format!("welcome.{field}")).is_some(), "no {field}: {welcome:?}");
        }
        agent
    }

    async fn says(&self, said: Said) {
        self.out.send(said.with(&self.changes).bytes()).await.unwrap();
    }

    /// What the hub says next that an old agent knows, which has to be this.
    async fn hears(&mut self, kind: &str) -> Said {
        loop {
            let next =
                timeout(SOON, self.incoming.message()).await.unwrap_or_else(|_| panic!("the hub does not say {kind}"));
            let said = self.release.read(Side::Hub, LINK, &next.unwrap().expect("a message")).unwrap();
            match said.kind().as_str() {
                "" => {} // of a kind that it does not know, and passes over
                found if found == kind => return said,
                found => panic!("{found} in place of {kind}: {said:?}"),
            }
        }
    }

    /// Tell what the record has of the platform, and be confirmed.
    async fn reports(&mut self) {
        for kind in ["health", "usage", "bill"] {
            // The first report is made before the platform was looked at.
            let said =
                on_the_link(&self.session).filter(|said| said.kind() == kind).max_by_key(|said| said.bytes().len());
            let said = said.expect("it is in the record").clone();
            self.says(said.clone()).await;
            if kind != "health" {
                let kept = self.hears(&format!("{kind}_kept")).await;
                let book = |said: &Said, kind: &str| number(&said.message, &format!("{kind}.book"));
                assert_eq!(book(&kept, &format!("{kind}_kept")), book(&said, kind));
                assert_ne!(number(&kept.message, &format!("{kind}_kept.revision")), 0);
            }
        }
    }

    /// Have the next receipts signed by another key.
    async fn changes_its_key(&mut self) {
        let next = SigningKey::generate().unwrap();
        let public = Bytes::copy_from_slice(next.public().as_bytes());
        let mut said = first(&self.session, Side::Agent, "receipt_key").with(&self.changes);
        set(said.signed.get_mut("receipt_key").expect("a key"), "public_key", Value::Bytes(public.clone()));
        said.sign("receipt_key", &[&self.receipt_key, &next]);
        self.out.send(said.bytes()).await.unwrap();
        let kept = self.hears("receipt_key_kept").await;
        assert_eq!(blob(&kept.message, "receipt_key_kept.public_key"), public);
        self.receipt_key = next;
    }

    /// Let an operator order what was ordered of the recorded agent, and answer as it did; the new id and what came of it.
    async fn is_ordered(&mut self, fleet: &Fleet, la: &AgentId, delivery: &Said) -> (CommandId, Outcome) {
        let recorded = delivery.at("delivery.command");
        let (before, id) = (text(recorded, "id").to_owned(), CommandId::generate());
        self.changes.texts.insert(before.clone(), id.to_string());
        self.changes.now_is(get(recorded, "not_before_unix_ms").expect("a moment"));
        let mut expected = recorded.clone();
        self.changes.make(&mut expected);
        // The operator's tool is of this release.
        let ordered = Command::parse(&expected.encode_to_vec()).unwrap();
        fleet.alice.hand_in(fleet.alice.sign(&ordered)).await.unwrap();
        let mut delivered = self.delivered(&expected, fleet).await;

        for said in on_the_link(&self.session.clone()).filter(|said| said.by == Side::Agent) {
            let kind = said.kind();
            if text(&said.message, &format!("{kind}.command_id")) == before {
                self.says(self.placed(said, &delivered)).await;
                if kind == "rejected" {
                    // One before it was lost; all from there on comes once more.
                    let mut resync = first(&self.session, Side::Agent, "resync");
                    let last = number(delivered.at("delivery.dispatch"), "sequence") - 1;
                    set(&mut resync.message, "resync.last_sequence", Value::U64(last));
                    self.says(resync).await;
                    delivered = self.delivered(&expected, fleet).await;
                }
            }
            let receipt = said.signed.get("receipt").filter(|receipt| text(receipt, "command_id") == before);
            if let Some(receipt) = receipt {
                let mut told = self.placed(said, &delivered).with(&self.changes);
                told.sign("receipt", &[&self.receipt_key]);
                self.out.send(told.bytes()).await.unwrap();
                let kept = self.hears("receipts_kept").await;
                let ids = get(&kept.message, "receipts_kept.command_ids").and_then(Value::as_list);
                assert_eq!(ids, Some(&[Value::String(id.to_string())][..]));
                let mut outcome = get(receipt, "outcome").and_then(Value::as_message).expect("an outcome").clone();
                self.changes.make(&mut outcome);
                let outcome = wire::Outcome::decode(&outcome.encode_to_vec()[..]).unwrap();
                assert_eq!(fleet.alice.outcome(id, la).await.unwrap().to_wire(), outcome);
                return (id, Outcome::try_from(outcome).unwrap());
            }
        }
        panic!("the record has no outcome of {recorded}")
    }

    /// The next delivery, of which an old agent lets in all.
    async fn delivered(&mut self, expected: &DynamicMessage, fleet: &Fleet) -> Said {
        let delivered = self.hears("delivery").await;
        assert!(delivered.holds("delivery.dispatch", &self.dispatch_key), "{delivered:?}");
        assert!(delivered.holds("delivery.command", &fleet.alice.key.public()), "{delivered:?}");
        assert!(delivered.is_known("delivery.dispatch") && delivered.is_known("delivery.command"), "{delivered:?}");
        let (command, dispatch) = (delivered.at("delivery.command"), delivered.at("delivery.dispatch"));
        assert!(command == expected, "not what the operator of that release ordered: {command}\nbut: {expected}");
        assert_eq!(text(dispatch, "agent_id"), "la-0");
        assert_eq!(text(dispatch, "command_id"), text(command, "id"));
        assert_eq!(blob(dispatch, "command_digest"), sha256(&command.encode_to_vec())[..]);
        delivered
    }

    /// What the recorded agent said of a command, at the place that it has here.
    fn placed(&self, said: &Said, delivered: &Said) -> Said {
        let (mut said, dispatch) = (said.clone(), delivered.at("delivery.dispatch"));
        let place = |message: &mut DynamicMessage, prefix: &str| {
            for field in ["epoch", "sequence"] {
                set(message, &format!("{prefix}{field}"), Value::U64(number(dispatch, field)));
            }
        };
        if said.kind() == "rejected" {
            place(&mut said.message, "rejected.");
        }
        if let Some(receipt) = said.signed.get_mut("receipt") {
            place(receipt, "");
            set(receipt, "command_digest", Value::Bytes(blob(dispatch, "command_digest")));
        }
        said
    }
}

/// Each recorded command that has an outcome, once, in order.
fn commands(session: &[Said]) -> Vec<Said> {
    let mut seen = BTreeSet::new();
    let ended: BTreeSet<&str> = on_the_link(session)
        .filter_map(|said| said.signed.get("receipt"))
        .map(|receipt| text(receipt, "command_id"))
        .collect();
    let delivered = on_the_link(session).filter(|said| {
        let id = said.signed.get("delivery.command").map(|command| text(command, "id"));
        id.is_some_and(|id| ended.contains(id) && seen.insert(id))
    });
    delivered.cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_a_kept_release_works_at_the_hub_of_this_one() {
    for release in Release::kept().unwrap() {
        let mut fleet = Fleet::with(0, Options::default()).await;
        let la: AgentId = "la-0".parse().unwrap();
        let token = fleet.invite("la-0", ACCOUNT).await.unwrap();
        let version = release.version.clone();
        let mut agent = OldAgent::joins(&fleet, release, &token).await;
        agent.reports().await;
        agent.changes_its_key().await;
        eventually("an operator sees it, and how it is", SOON, async || {
            let seen = fleet.alice.agent(&la).await.ok()?;
            let health =
                seen.health.as_ref().is_some_and(|health| health.agent_version == version && health.ecs.is_some());
            (seen.state() == wire::AgentState::Connected && seen.version == version && health).then_some(())
        })
        .await;

        let commands = commands(&agent.session);
        assert!(commands.len() > 10, "{} commands are no record", commands.len());
        let mut ended = Vec::new();
        for delivery in &commands {
            ended.push(agent.is_ordered(&fleet, &la, delivery).await);
        }

        // Another bundle, and what an operator sees.
        let home = web::join(&mut fleet, "vera", Role::Viewer).await.unwrap();
        let bundle = agent.hears("trust_bundle").await;
        assert!(bundle.holds("trust_bundle", &fleet.root.public()), "{bundle:?}");
        assert_eq!(number(bundle.at("trust_bundle"), "version"), fleet.bundle.version);
        agent.says(first(&agent.session, Side::Agent, "trust_taken")).await;
        let hubctl = async |args: &[&str]| {
            let (code, shown, said) = process::outcome("hubctl", &[&["--home", home.as_str()], args].concat()).await;
            assert_eq!(code, Some(0), "hubctl {args:?}: {said}");
            shown
        };
        let agents = hubctl(&["agents", "list"]).await;
        assert!(agents.contains("la-0") && agents.contains(&version), "{agents}");
        for (id, outcome) in &ended {
            let shown = hubctl(&["commands", "show", &id.to_string()]).await;
            assert!(shown.contains(outcome.name()), "not {outcome:?}: {shown}");
        }

        let key = TlsKey::generate().unwrap();
        let mut asked = once(&agent.session, Side::Agent, RENEW);
        set(&mut asked.message, "csr_der", Value::Bytes(key.request().unwrap().into()));
        let answer = raw::call(&agent.hub, RENEW, asked.bytes()).await.unwrap().expect("an answer");
        let answer = agent.release.read(Side::Hub, RENEW, &answer).unwrap();
        let chain = blobs(&answer.message, "certificates").iter().map(|der| der.to_vec()).collect();
        Identity::new(chain, &key).unwrap();

        let ((), goodbye) = tokio::join!(fleet.stop_hub(), agent.hears("goodbye"));
        assert!(!text(&goodbye.message, "goodbye.reason").is_empty());
        fleet.stop().await;
    }
}
