//! This release's agent at a hub of an older one, which says what the record has, in its order, and reads no more than such a hub
//! could.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use sfdata_agent::{
    identity::{Identity, receipts},
    trust::Trust,
};
use sfdata_common::{
    Timestamp,
    ids::AgentId,
    join,
    keys::{PublicKey, SigningKey, sha256},
    peer::Subject,
    trust::Bundle,
};
use sfdata_hub::enrol::identity::{DISPATCH_FILE, HubKeys};
use sfdata_tests::{
    fleet::{Fleet, TRUST_DOMAIN},
    raw::{self, Call},
    release::{
        Changes, ENROL, LINK, RENEW, Release, SERVICES, Said, Side, blob, blobs, essence, fields, get, number, set,
        text,
    },
    rogue::Place,
};
use tokio::{sync::mpsc, time::timeout};

use super::{ACCOUNT, SOON, first, on_the_link, once, platform};

/// The hub, with the keys of a fleet's own.
struct OldHub {
    release: Release,
    session: Vec<Said>,
    changes: Changes,
    keys: HubKeys,
    dispatch: SigningKey,
    /// Good for receipts of la-0.
    receipt_keys: Vec<PublicKey>,
    /// What the agent has said, by kind and by what it is about.
    told: BTreeMap<(String, String), Said>,
    calls: mpsc::Receiver<Call>,
    places: [Place; 2],
}

impl OldHub {
    /// In place of the fleet's hub, which must have been stopped.
    fn in_place_of(fleet: &Fleet, release: Release) -> Self {
        let hub = &fleet.hub_config;
        let (routes, calls) = raw::routes(&SERVICES);
        let places = [(hub.listen.address, true), (hub.listen.enrol, false)]
            .map(|(address, certified)| Place::take(&hub.data_dir, address, certified, routes.clone()).unwrap());
        let session = release.session().unwrap();
        let bytes = keys_of(&once(&session, Side::Hub, ENROL), &fleet.bundle);
        let changes = Changes { bytes, ..Changes::default() };
        Self {
            release,
            session,
            changes,
            keys: HubKeys::open_or_create(&hub.data_dir, TRUST_DOMAIN, "core", Timestamp::now()).unwrap(),
            dispatch: SigningKey::read(&hub.data_dir.join(DISPATCH_FILE)).unwrap(),
            receipt_keys: Vec::new(),
            told: BTreeMap::new(),
            calls,
            places,
        }
    }

    async fn call(&mut self, method: &str) -> Call {
        let call = timeout(SOON, self.calls.recv()).await.expect("the agent calls in time").expect("a call");
        assert_eq!(call.path, method);
        call
    }

    /// What the agent says to a method of one message, and who is told of it.
    async fn asked(&mut self, method: &str) -> (Said, mpsc::Sender<Result<Bytes, tonic::Status>>) {
        let Call { mut incoming, out, .. } = self.call(method).await;
        let bytes = incoming.message().await.unwrap().expect("a message");
        let asked = self.release.read(Side::Agent, method, &bytes).unwrap();
        has_all(&asked.message, &once(&self.session, Side::Agent, method).message);
        (asked, out)
    }

    fn issue(&self, csr_der: &[u8], agent: &AgentId) -> Value {
        let subject = Subject::Agent(agent.clone());
        let chain = self.keys.authority.issue(csr_der, &subject, SOON * 60, Timestamp::now()).unwrap();
        Value::List(chain.into_iter().map(|der| Value::Bytes(der.into())).collect())
    }

    /// Let an agent join that has this secret.
    async fn enrols(&mut self, secret: &[u8], root: &SigningKey, agent: &AgentId) {
        let (asked, out) = self.asked(ENROL).await;
        assert_eq!(blob(&asked.message, "secret"), secret);
        assert_eq!(text(&asked.message, "agent.account"), ACCOUNT);
        let key = blob(&asked.message, "agent.receipt_key");
        self.receipt_keys.push(PublicKey::from_bytes(&key).expect("a receipt key"));
        let recorded = once(&self.session, Side::Hub, ENROL);
        self.changes.now_is(get(recorded.at("joined"), "joined_unix_ms").expect("a moment"));
        let mut answer = recorded.with(&self.changes);
        set(&mut answer.message, "certificates", self.issue(&blob(&asked.message, "csr_der"), agent));
        answer.sign("trust_bundle", &[root]);
        answer.sign("joined", &[&self.dispatch]);
        out.send(Ok(answer.bytes())).await.unwrap();
    }

    /// Give a younger certificate.
    async fn renews(&mut self, agent: &AgentId) {
        let (asked, out) = self.asked(RENEW).await;
        let mut answer = once(&self.session, Side::Hub, RENEW);
        set(&mut answer.message, "certificates", self.issue(&blob(&asked.message, "csr_der"), agent));
        out.send(Ok(answer.bytes())).await.unwrap();
    }

    /// Say what the record has, each after what the agent had said before it.
    async fn talks(&mut self, root: &SigningKey, operator: &SigningKey) {
        let mut link = None;
        for said in on_the_link(&self.session.clone()) {
            match (said.by, said.kind().as_str()) {
                (Side::Agent, "hello") => {
                    drop(link.take()); // ends the stream before, if nobody has
                    let mut call = self.call(LINK).await;
                    let bytes = call.incoming.message().await.unwrap().expect("a message");
                    let hello = self.release.read(Side::Agent, LINK, &bytes).unwrap();
                    assert_eq!(hello.kind(), "hello");
                    for field in ["version", "boot_id", "clock_unix_ms", "epoch", "trust_version"] {
                        assert!(get(&hello.message, &format!("hello.{field}")).is_some(), "no {field}: {hello:?}");
                    }
                    link = Some(call);
                }
                // It comes in its own time, and is answered then.
                (Side::Agent, "health" | "usage" | "bill" | "receipt_key")
                | (Side::Hub, "usage_kept" | "bill_kept" | "receipt_key_kept") => {}
                // What was stopped has to be as far before it is stopped again; all else may be faster here.
                (Side::Agent, "progress")
                    if !was_stopped(&self.session, text(&said.message, "progress.command_id")) => {}
                (Side::Agent, _) => {
                    let link = link.as_mut().expect("a link");
                    self.awaits(link, &about(said)).await;
                    self.compares(said);
                }
                (Side::Hub, _) => {
                    let answer = self.answer(said, root, operator);
                    let link = link.as_ref().expect("a link");
                    // Who has just left said all that they had to.
                    let _ = link.out.send(Ok(answer.bytes())).await;
                }
            }
        }
        let kinds = on_the_link(&self.session).filter(|said| said.by == Side::Agent).map(Said::kind);
        for kind in kinds.collect::<BTreeSet<_>>().into_iter().filter(|kind| kind != "hello") {
            let link = link.as_mut().expect("a link");
            self.awaits(link, &(kind, String::new())).await;
        }
    }

    /// Listen until the agent has said this; whatever it is about, where that is empty.
    async fn awaits(&mut self, link: &mut Call, (kind, subject): &(String, String)) {
        let said = |told: &(String, String)| told.0 == *kind && (subject.is_empty() || told.1 == *subject);
        let listening = async {
            while !self.told.keys().any(said) {
                self.hears(link).await;
            }
        };
        if timeout(SOON, listening).await.is_err() {
            let refused: Vec<_> = self.told.iter().filter(|((kind, _), _)| kind == "rejected").collect();
            panic!("the agent does not say {kind} {subject}; what it rejected: {refused:?}");
        }
    }

    /// Take in what the agent says next, and confirm what wants it at once.
    async fn hears(&mut self, link: &mut Call) {
        let bytes = link.incoming.message().await.unwrap().expect("a message");
        let said = self.release.read(Side::Agent, LINK, &bytes).unwrap();
        let kind = said.kind();
        match kind.as_str() {
            "" => return, // of a kind that the old hub does not know, and passes over
            "receipt" => {
                assert!(self.receipt_keys.iter().any(|key| said.holds("receipt", key)), "it does not hold: {said:?}");
            }
            "usage" | "bill" => {
                let mut kept = first(&self.session, Side::Hub, &format!("{kind}_kept"));
                let revision = match get(&said.message, "usage.records").and_then(Value::as_list) {
                    Some(records) => number(records.last().and_then(Value::as_message).expect("a record"), "revision"),
                    None => number(&said.message, "bill.revision"),
                };
                let book = number(&said.message, &format!("{kind}.book"));
                assert!(book != 0 && revision != 0, "{said:?}");
                set(&mut kept.message, &format!("{kind}_kept.book"), Value::U64(book));
                set(&mut kept.message, &format!("{kind}_kept.revision"), Value::U64(revision));
                link.out.send(Ok(kept.bytes())).await.unwrap();
            }
            "receipt_key" => {
                assert!(said.holds("receipt_key", &self.receipt_keys[0]), "the key before has to sign it");
                let key = blob(said.at("receipt_key"), "public_key");
                self.receipt_keys.push(PublicKey::from_bytes(&key).expect("a key"));
                let mut kept = first(&self.session, Side::Hub, "receipt_key_kept");
                set(&mut kept.message, "receipt_key_kept.public_key", Value::Bytes(key));
                link.out.send(Ok(kept.bytes())).await.unwrap();
            }
            _ => {}
        }
        self.told.insert(about(&said), said);
    }

    /// A recorded message for today, signed.
    fn answer(&mut self, said: &Said, root: &SigningKey, operator: &SigningKey) -> Said {
        let moments = [("delivery.command", "not_before_unix_ms"), ("epoch_statement", "issued_unix_ms")];
        for (place, moment) in moments {
            if let Some(signed) = said.signed.get(place) {
                self.changes.now_is(get(signed, moment).expect("a moment"));
            }
        }
        let mut answer = said.with(&self.changes);
        match said.kind().as_str() {
            "welcome" => set(&mut answer.message, "welcome.clock_unix_ms", now()),
            "trust_bundle" => answer.sign("trust_bundle", &[root]),
            "epoch_statement" => answer.sign("epoch_statement", &[operator]),
            "delivery" => {
                if answer.signed.contains_key("delivery.command") {
                    answer.sign("delivery.command", &[operator]);
                    let digest = sha256(&answer.at("delivery.command").encode_to_vec()).to_vec();
                    let dispatch = answer.signed.get_mut("delivery.dispatch").expect("a dispatch");
                    set(dispatch, "command_digest", Value::Bytes(digest.into()));
                }
                answer.sign("delivery.dispatch", &[&self.dispatch]);
            }
            _ => {}
        }
        answer
    }

    /// What this release says has all that the old one's hub found in it.
    fn compares(&mut self, recorded: &Said) {
        let told = &self.told[&about(recorded)];
        let (before, after) = match recorded.signed.get("receipt") {
            Some(before) => (before, told.at("receipt")),
            None => (&recorded.message, &told.message),
        };
        assert_eq!(essence(after), essence(before), "{before}\n{after}");
        has_all(after, before);
        // What comes later may rest on that plan.
        let plan = "outcome.succeeded.result.plan.digest";
        if get(before, plan).is_some() {
            self.changes.bytes.insert(blob(before, plan), blob(after, plan));
        }
    }

    async fn stop(self) {
        drop(self.calls);
        for place in self.places {
            place.leave().await;
        }
    }
}

/// A message of this release has the fields of the recorded one.
fn has_all(message: &DynamicMessage, recorded: &DynamicMessage) {
    let lost: Vec<String> = fields(recorded).difference(&fields(message)).cloned().collect();
    assert!(lost.is_empty(), "it says nothing of {lost:?}: {message}");
}

fn now() -> Value {
    Value::I64(Timestamp::now().as_millisecond())
}

/// Keys of the recorded first bundle, and those that take their places.
fn keys_of(enrolled: &Said, bundle: &Bundle) -> HashMap<Bytes, Bytes> {
    let recorded = enrolled.at("trust_bundle");
    let bytes = |key: &PublicKey| Bytes::copy_from_slice(key.as_bytes());
    let operators = get(recorded, "operators").and_then(Value::as_list).unwrap_or_default();
    let alice = operators.iter().filter_map(Value::as_message).find(|operator| text(operator, "name") == "alice");
    HashMap::from([
        (blobs(recorded, "root.keys")[0].clone(), bytes(&bundle.root_keys[0])),
        (blob(alice.expect("alice"), "public_key"), bytes(&bundle.operators[0].key)),
        (blobs(recorded, "dispatch_keys")[0].clone(), bytes(&bundle.dispatch_keys[0])),
        (blobs(recorded, "ca_certificates")[0].clone(), bundle.ca_certificates[0].clone().into()),
    ])
}

/// Kind and subject of what an agent says.
fn about(said: &Said) -> (String, String) {
    let kind = said.kind();
    let subject = match kind.as_str() {
        "receipt" => text(said.at("receipt"), "command_id").to_owned(),
        "trust_taken" => number(&said.message, "trust_taken.version").to_string(),
        "progress" => {
            let progress = get(&said.message, "progress").and_then(Value::as_message).expect("a message");
            format!("{} {:?}", text(progress, "command_id"), fields(progress))
        }
        "resync" => number(&said.message, "resync.last_sequence").to_string(),
        kind => text(&said.message, &format!("{kind}.command_id")).to_owned(),
    };
    (kind, subject)
}

fn ended(session: &[Said], id: &str, how: &str) -> bool {
    let mut receipts = on_the_link(session).filter_map(|said| said.signed.get("receipt"));
    receipts.any(|receipt| text(receipt, "command_id") == id && get(receipt, how).is_some())
}

fn was_stopped(session: &[Said], id: &str) -> bool {
    ended(session, id, "outcome.cancelled")
}

/// How often the recorded commands had a service restarted.
fn restarts(session: &[Said]) -> usize {
    let commands = on_the_link(session).filter_map(|said| said.signed.get("delivery.command"));
    let orders = commands.filter(|command| get(command, "action.ecs.restart").is_some());
    let ids: BTreeSet<&str> =
        orders.filter(|command| get(command, "plan_only").is_none()).map(|command| text(command, "id")).collect();
    let began = |id: &str| on_the_link(session).any(|said| text(&said.message, "started.command_id") == id);
    let done = |id: &&&str| ended(session, id, "outcome.succeeded") || was_stopped(session, id) && began(id);
    ids.iter().filter(done).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_this_release_works_at_the_hub_of_a_kept_one() {
    for release in Release::kept().unwrap() {
        let mut fleet = platform().await;
        let (la, data_dir) = (fleet.agents[0].id.clone(), fleet.agents[0].config.data_dir.clone());
        let token = fleet.invite("la-0", ACCOUNT).await.unwrap();
        fleet.stop_hub().await;
        let mut hub = OldHub::in_place_of(&fleet, release);
        let secret = join::decode(&token).unwrap().secret;
        let (joined, ()) = tokio::join!(fleet.agents[0].enrol(&token), hub.enrols(&secret, &fleet.root, &la));
        joined.unwrap();
        receipts::stage(&data_dir).unwrap();
        fleet.start_agent(0).await;
        hub.talks(&fleet.root, &fleet.alice.key).await;
        let expected = restarts(&hub.session);
        assert!(expected >= 3, "a restart, one by its plan, and one that is stopped");
        assert_eq!(fleet.aws().restarts(ACCOUNT).await.unwrap(), expected);

        fleet.stop_agent(0).await;
        let trust = Trust::open(&data_dir).unwrap().into();
        let identity = Identity::open(&data_dir, None, trust).unwrap();
        let (renewed, ()) = tokio::join!(identity.renew(), hub.renews(&la));
        renewed.unwrap();
        hub.stop().await;
        fleet.stop().await;
    }
}
