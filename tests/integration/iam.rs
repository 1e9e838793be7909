//! Joining by AWS identity: against a stand-in that checks signatures, against an STS that misbehaves, and as a clone.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use serde_json::json;
use sfdata_agent::{
    config::{Aws, Join, Platform},
    identity::{self, ByAws},
    policy::Sharing,
    services::{Services, sts::Asked},
};
use sfdata_common::{
    Timestamp, channel,
    command::{Action, Agent},
    join::JoinToken,
    keyfile,
    keys::SigningKey,
    limits,
    outcome::Outcome,
    sts::BODY,
    tls::{self, Knows, TlsKey},
};
use sfdata_proto::v1::{self as wire, enrol_service_client::EnrolServiceClient};
use sfdata_tests::{
    eventually,
    fleet::{Fleet, Options, ROLE},
    process::outcome,
    settings::write_agent,
    standin::sdk,
    sts::{Answer, Sts},
};
use tonic::{Code, Status, transport::Channel};

use crate::{identity::copy_folder, traces::Hubctl};

const ACCOUNT: &str = "222222222222";
const SECOND: Duration = Duration::from_secs(1);

/// Somebody who asks to join, step by step.
struct Applicant {
    place: JoinToken,
    services: Services,
    receipt: SigningKey,
    hub: EnrolServiceClient<Channel>,
}

async fn services(credentials: &Path, url: String) -> Services {
    let aws = Aws { region: "eu-west-2".into(), endpoint_url: Some(url), credentials_file: Some(credentials.into()) };
    Services::new(&aws, &nothing(), Sharing::new(Path::new("/nonexistent"))).await
}

fn nothing() -> Platform {
    Platform {
        cluster: "none".into(),
        webserver: "webserver".into(),
        daemon: "daemon".into(),
        code_servers: vec![],
        other_services: vec![],
        agent_service: None,
        aurora_cluster: None,
        database_instance: None,
        buckets: Default::default(),
        storage: Default::default(),
    }
}

impl Applicant {
    fn new(join: &Join, services: Services) -> Self {
        let place = join.place();
        let knows = Knows::Pin { ca: &place.ca_pin, trust_domain: &place.trust_domain };
        let tls = Arc::new(ArcSwap::new(tls::client(None, knows).unwrap()));
        let hub = EnrolServiceClient::new(channel::open(&place.enrol_address, tls));
        Self { place, services, receipt: SigningKey::generate().unwrap(), hub }
    }

    async fn challenge(&self, agent: &str) -> wire::ChallengeResponse {
        let request = wire::ChallengeRequest { agent_id: agent.into() };
        self.hub.clone().challenge(request).await.unwrap().into_inner()
    }

    /// The signed request, for this hub or another.
    async fn proof(&self, asked: &wire::ChallengeResponse, server_id: &str, csr_der: &[u8]) -> Vec<u8> {
        let (host, region, challenge) = (&asked.sts_host, &asked.sts_region, &asked.challenge);
        let asked = Asked { host, region, challenge, server_id, csr_der };
        self.services.prove_identity(&asked, Timestamp::now()).await.unwrap()
    }

    async fn send(&self, challenge: &[u8], signed: &[u8], csr_der: &[u8]) -> Result<wire::EnrolResponse, Status> {
        let request = wire::EnrolAwsRequest {
            challenge: challenge.to_vec().into(),
            signed_request: signed.to_vec().into(),
            csr_der: csr_der.to_vec().into(),
            agent: Some(wire::EnrollingAgent {
                account: ACCOUNT.into(),
                receipt_key: self.receipt.public().as_bytes().to_vec().into(),
                version: "test".into(),
                joined: None,
            }),
        };
        let answer = self.hub.clone().enrol_aws(request).await?.into_inner();
        Ok(answer.enrolled.expect("what it asked for"))
    }

    /// All of it, as an honest agent with this key does.
    async fn join(&self, agent: &str, key: &TlsKey) -> Result<wire::EnrolResponse, Status> {
        let (asked, csr) = (self.challenge(agent).await, key.request().unwrap());
        let proof = self.proof(&asked, &self.place.trust_domain, &csr).await;
        self.send(&asked.challenge, &proof, &csr).await
    }

    async fn refused(&self, agent: &str, words: &[&str]) {
        let status = self.join(agent, &TlsKey::generate().unwrap()).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(words.iter().all(|word| status.message().contains(word)), "{words:?}: {status}");
    }
}

async fn kinds(fleet: &Fleet, kind: &str) -> Vec<String> {
    let entries = fleet.alice.audit().await.unwrap();
    entries.into_iter().filter(|entry| entry.kind == kind).map(|entry| entry.detail).collect()
}

/// A fleet whose AWS checks signatures, and the credentials of the role of camden's account.
async fn signed_fleet(options: Options) -> (Fleet, std::path::PathBuf) {
    let fleet = Fleet::with(0, Options { aws: true, ..options }).await;
    let credentials = fleet.aws().role(fleet.folder.path(), ACCOUNT, ROLE, false).await.unwrap();
    fleet.aws().check_signatures().await.unwrap();
    (fleet, credentials)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_joins_by_its_aws_identity_at_its_first_start_and_again_when_its_certificate_has_ended() {
    let mut fleet = Fleet::with(0, Options { aws: true, agent_lifetime: Some(8 * SECOND), ..Default::default() }).await;
    fleet.add_by_aws("camden", ACCOUNT).await.unwrap();
    fleet.aws().check_signatures().await.unwrap();
    let camden = fleet.agents[0].id.clone();
    let listed = fleet.alice.agent(&camden).await.unwrap();
    assert_eq!((listed.state(), listed.joins), (wire::AgentState::Invited, 0));
    assert_eq!(listed.aws, Some(wire::AwsIdentity { role: ROLE.into(), role_id: String::new() }));

    // The key that it will join with, as one finds it in a copy of its folder.
    let (key, data_dir) = (TlsKey::generate().unwrap(), fleet.agents[0].config.data_dir.clone());
    std::fs::create_dir(&data_dir).unwrap();
    keyfile::create_secret(&data_dir.join("joining.key"), &key.to_pem()).unwrap();
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    let outcome = fleet.alice.run(Action::Agent(Agent::Refresh), &camden).await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    // It has its answer, and nobody gets that again with the same key.
    let services =
        Services::new(&fleet.agents[0].config.aws, &nothing(), Sharing::new(Path::new("/nonexistent"))).await;
    let copy = Applicant::new(fleet.agents[0].config.join.as_ref().unwrap(), services.clone());
    let again = copy.join("camden", &key).await.unwrap_err();
    assert!(again.message().contains("joined before"), "{again}");
    let listed = fleet.alice.agent(&camden).await.unwrap();
    let pinned = listed.aws.unwrap().role_id;
    assert!(listed.joins == 1 && pinned.starts_with("AROA"), "{pinned}");
    assert_eq!(kinds(&fleet, "agent.registered").await, [format!("account {ACCOUNT}, role {ROLE}")]);
    let joined = kinds(&fleet, "agent.joined").await;
    assert!(joined.len() == 1 && joined[0].contains(&pinned) && joined[0].ends_with("join 1"), "{joined:?}");

    // Off for longer than a certificate lives: nothing can be renewed.
    fleet.stop_agent(0).await;
    let by_aws = identity::by_aws(&fleet.agents[0].config, &services).unwrap();
    let still = by_aws.enrol(Timestamp::now()).await.unwrap_err();
    let identity::Error::Valid { until, .. } = still else { panic!("{still}") };
    eventually("the certificate has ended", 15 * SECOND, async || (Timestamp::now() > until).then_some(())).await;
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    assert_eq!(fleet.alice.agent(&camden).await.unwrap().joins, 2);
    let outcome = fleet.alice.run(Action::Agent(Agent::Refresh), &camden).await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)), "its journal went on: {outcome:?}");
    assert!(!fleet.agents[0].config.data_dir.join("joining.key").exists());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hubctl_prints_is_what_the_real_agent_joins_with() {
    let mut fleet = Fleet::with(0, Options { aws: true, ..Default::default() }).await;
    let hubctl = Hubctl::join(&mut fleet).await;
    fleet.add_by_aws("camden", ACCOUNT).await.unwrap();
    fleet.aws().check_signatures().await.unwrap();
    let hubctl = async |args: &[&str]| {
        let (code, out, said) = hubctl.run(args, "").await;
        assert_eq!(code, Some(0), "{args:?}: {said}");
        (out, said)
    };
    let (section, said) = hubctl(&["agents", "register", "camden", "--account", ACCOUNT, "--role", ROLE]).await;
    assert!(section.starts_with("[join]\n") && said.contains("sfdata-agent enrol --aws"), "{section} {said}");

    fleet.agents[0].config.join = None;
    let file = write_agent(&fleet.agents[0].config, &fleet.folder.path().join("agent.toml")).unwrap();
    let file = file.display().to_string();
    let enrol = async || outcome("sfdata-agent", &["--config", &file, "enrol", "--aws"]).await;
    let (code, _, said) = enrol().await;
    assert!(code == Some(1) && said.contains("no [join] section"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n{section}")).unwrap();
    let (code, _, said) = enrol().await;
    assert!(code == Some(0) && said.contains("Agent camden has joined from account 222222222222"), "{said}");
    let (code, _, said) = enrol().await;
    assert!(code == Some(1) && said.contains("there is nothing to do"), "{said}");

    let (shown, _) = hubctl(&["agents", "show", "camden"]).await;
    assert!(shown.contains("1 so far; by token, or as role AgentRole (AROA"), "{shown}");
    hubctl(&["agents", "unregister", "camden", "--reason", "a test"]).await;
    let (shown, _) = hubctl(&["agents", "show", "camden"]).await;
    assert!(shown.contains("1 so far; by token"), "{shown}");
    assert_eq!(kinds(&fleet, "agent.unregistered").await, ["a test"]);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_registered_role_of_the_registered_account_gets_in() {
    let (fleet, credentials) = signed_fleet(Options::default()).await;
    let (folder, aws) = (fleet.folder.path(), fleet.aws());
    let join = fleet.register("camden", ACCOUNT, ROLE, false).await.unwrap();
    let applicant = async |credentials: &Path| Applicant::new(&join, services(credentials, aws.url()).await);
    let honest = applicant(&credentials).await;

    honest.refused("barnet", &["barnet", "not registered", "hubctl agents register"]).await;
    let other_account = aws.role(folder, "333333333333", ROLE, false).await.unwrap();
    applicant(&other_account)
        .await
        .refused("camden", &["registered for AWS account 222222222222", "333333333333"])
        .await;
    let other_role = aws.role(folder, ACCOUNT, "Other", false).await.unwrap();
    applicant(&other_role).await.refused("camden", &["registered as role AgentRole", "as Other"]).await;
    // Keys that are no such keys.
    let text = std::fs::read_to_string(&credentials).unwrap();
    let wrong = folder.join("wrong.credentials");
    let secret = text.lines().find_map(|line| line.strip_prefix("aws_secret_access_key = ")).unwrap();
    std::fs::write(&wrong, text.replace(secret, &secret.chars().rev().collect::<String>())).unwrap();
    applicant(&wrong).await.refused("camden", &["AWS does not accept the signature", "SignatureDoesNotMatch"]).await;
    let token = text.lines().find_map(|line| line.strip_prefix("aws_session_token = ")).unwrap();
    std::fs::write(&wrong, text.replace(token, "AAAA")).unwrap();
    applicant(&wrong).await.refused("camden", &["AWS does not accept the signature"]).await;
    assert_eq!(fleet.alice.agent(&"camden".parse().unwrap()).await.unwrap().joins, 0);

    let key = TlsKey::generate().unwrap();
    let first = honest.join("camden", &key).await.unwrap();
    assert!(!first.certificates.is_empty() && first.joined.is_some() && first.trust_bundle.is_some());
    // Its answer was lost: the same key gets it again, and it counts once.
    honest.join("camden", &key).await.unwrap();
    assert_eq!(fleet.alice.agent(&"camden".parse().unwrap()).await.unwrap().joins, 1);
    honest.refused("camden", &["joined before", "--again"]).await;

    // The same name, and another role.
    let anew = aws.role(folder, ACCOUNT, ROLE, true).await.unwrap();
    let anew = applicant(&anew).await;
    anew.refused("camden", &["unique id", "made anew", "--again"]).await;
    fleet.register("camden", ACCOUNT, ROLE, false).await.unwrap();
    anew.refused("camden", &["unique id"]).await; // to register it once more changes nothing
    fleet.register("camden", ACCOUNT, ROLE, true).await.unwrap();
    anew.join("camden", &TlsKey::generate().unwrap()).await.unwrap();
    anew.refused("camden", &["joined before"]).await; // it holds for one join

    let locked = fleet.alice.lock(&"camden".parse().unwrap()).await;
    locked.unwrap();
    anew.refused("camden", &["locked"]).await;
    let unlock = wire::UnlockAgentRequest { agent_id: "camden".into(), reason: "a test".into() };
    fleet.alice.client.clone().unlock_agent(unlock).await.unwrap();
    let unregister = wire::UnregisterAgentRequest { agent_id: "camden".into(), reason: "a test".into() };
    fleet.alice.client.clone().unregister_agent(unregister).await.unwrap();
    anew.refused("camden", &["not registered"]).await;

    // Who is of the account is on record, once where the reason stays the same; strangers, of whom there is no end, are not.
    let refused = kinds(&fleet, "agent.join-refused").await;
    assert_eq!(refused.len(), 4, "{refused:#?}");
    assert!(refused.iter().all(|detail| !detail.contains("333333333333")));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_is_good_for_one_challenge_one_request_and_one_hub() {
    let (fleet, credentials) = signed_fleet(Options::default()).await;
    let join = fleet.register("camden", ACCOUNT, ROLE, false).await.unwrap();
    fleet.register("barnet", "333333333333", ROLE, false).await.unwrap();
    let honest = Applicant::new(&join, services(&credentials, fleet.aws().url()).await);
    let (ours, csr) = (honest.place.trust_domain.clone(), TlsKey::generate().unwrap().request().unwrap());
    let other_csr = TlsKey::generate().unwrap().request().unwrap();
    let calls = async || fleet.aws().calls(ACCOUNT, "sts", "GetCallerIdentity").await.unwrap().len();
    let refused = |answer: Result<wire::EnrolResponse, Status>, word: &str| {
        let status = answer.unwrap_err();
        assert!(status.code() == Code::PermissionDenied && status.message().contains(word), "{word}: {status}");
    };

    let asked = honest.challenge("camden").await;
    let proof = honest.proof(&asked, &ours, &csr).await;
    // Another request with it, whose key is another's; and the challenge is used up by that.
    refused(honest.send(&asked.challenge, &proof, &other_csr).await, "x-hub-csr-sha256");
    refused(honest.send(&asked.challenge, &proof, &csr).await, "one attempt");
    // With another challenge.
    let next = honest.challenge("camden").await;
    refused(honest.send(&next.challenge, &proof, &csr).await, "x-hub-challenge");
    refused(honest.send(&[7; 32], &proof, &csr).await, "one attempt");
    refused(honest.send(b"", &proof, &csr).await, "one attempt");
    // As somebody else, and for another hub, which had it signed for itself.
    let next = honest.challenge("barnet").await;
    let proof = honest.proof(&next, &ours, &csr).await;
    assert_eq!(calls().await, 0, "AWS was asked for none of these");
    refused(honest.send(&next.challenge, &proof, &csr).await, "account 333333333333");
    let next = honest.challenge("camden").await;
    let proof = honest.proof(&next, "other.example", &csr).await;
    refused(honest.send(&next.challenge, &proof, &csr).await, "x-hub-server-id");
    // Said to be for this one afterwards: only AWS sees that.
    let next = honest.challenge("camden").await;
    let proof = String::from_utf8(honest.proof(&next, "other.example", &csr).await).unwrap();
    let proof = proof.replace("other.example", &ours);
    refused(honest.send(&next.challenge, proof.as_bytes(), &csr).await, "SignatureDoesNotMatch");
    assert_eq!(calls().await, 2);

    // Eight at once with one challenge: one gets in.
    let next = honest.challenge("camden").await;
    let proof = honest.proof(&next, &ours, &csr).await;
    let tries = futures::future::join_all((0..8).map(|_| honest.send(&next.challenge, &proof, &csr))).await;
    assert_eq!(tries.iter().filter(|joined| joined.is_ok()).count(), 1, "{tries:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_signs_for_no_other_host_than_that_of_its_aws() {
    let fleet = Fleet::with(0, Options { aws: true, ..Default::default() }).await;
    let credentials = fleet.aws().role(fleet.folder.path(), ACCOUNT, ROLE, false).await.unwrap();
    let at_standin = services(&credentials, fleet.aws().url()).await;
    let aws = Aws { region: "eu-west-2".into(), endpoint_url: None, credentials_file: Some(credentials) };
    let at_aws = Services::new(&aws, &nothing(), Sharing::new(Path::new("/nonexistent"))).await;
    let standin = fleet.aws().url().replace("http://", "");
    let host = "sts.eu-west-2.amazonaws.com";
    for (services, host, region, signs) in [
        (&at_aws, host, "eu-west-2", true),
        (&at_aws, "evil.example", "eu-west-2", false),
        (&at_aws, host, "eu-west-1", false),
        (&at_aws, "sts.us-east-1.amazonaws.com", "us-east-1", false),
        (&at_aws, standin.as_str(), "eu-west-2", false),
        (&at_standin, standin.as_str(), "eu-west-2", true),
        (&at_standin, host, "eu-west-2", false),
    ] {
        let asked = Asked { host, region, challenge: &[7; 32], server_id: "sfdata.example", csr_der: b"request" };
        assert_eq!(services.prove_identity(&asked, Timestamp::now()).await.is_ok(), signs, "{host} {region}");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_accounts_of_the_organisation_join_where_the_hub_is_told_of_one_and_nobody_while_aws_does_not_tell() {
    const CORE: &str = "111111111111";
    let mut fleet = Fleet::with(0, Options { aws: true, ..Default::default() }).await;
    let folder = fleet.folder.path().to_owned();
    let core = fleet.aws().role(&folder, CORE, "Hub", false).await.unwrap();
    let organizations = aws_sdk_organizations::Client::new(&sdk(&fleet.aws().url(), &core).await);
    let made = organizations.create_organization().send().await.unwrap().organization.unwrap();
    let member = organizations.create_account().account_name("camden").email("camden@region.example").send().await;
    let member = member.unwrap().create_account_status.unwrap().account_id.unwrap();

    fleet.stop_hub().await;
    fleet.hub_config.enrol.aws.organization = made.id;
    fleet.hub_config.enrol.aws.credentials_file = Some(core);
    fleet.start_hub().await;
    let applicant = async |agent: &str, account: &str| {
        let join = fleet.register(agent, account, ROLE, false).await.unwrap();
        let credentials = fleet.aws().role(&folder, account, ROLE, false).await.unwrap();
        Applicant::new(&join, services(&credentials, fleet.aws().url()).await)
    };
    let [camden, barnet] = [applicant("camden", &member).await, applicant("barnet", ACCOUNT).await];
    barnet.refused("barnet", &["not in the organisation", ACCOUNT]).await;
    camden.join("camden", &TlsKey::generate().unwrap()).await.unwrap();

    organizations.close_account().account_id(&member).send().await.unwrap();
    camden.refused("camden", &["is not active", "SUSPENDED"]).await;

    // A role that may not ask, or an Organizations that does not answer: nobody is let in.
    let denied =
        json!({"service": "organizations", "action": "DescribeAccount", "kind": "access_denied", "account": CORE});
    fleet.aws().fault(denied).await.unwrap();
    let status = camden.join("camden", &TlsKey::generate().unwrap()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("organizations:DescribeAccount"), "{status}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_with_an_old_count_locks_the_agent_and_raises_an_alert() {
    let options = Options { agent_lifetime: Some(2 * SECOND), ..Default::default() };
    let (fleet, credentials) = signed_fleet(options).await;
    let join = fleet.register("camden", ACCOUNT, ROLE, false).await.unwrap();
    let (folder, id) = (fleet.folder.path(), "camden".parse().unwrap());
    let services = services(&credentials, fleet.aws().url()).await;
    let at = |name: &str| ByAws { data_dir: folder.join(name), place: join.place(), services: services.clone() };
    let (original, copy) = (at("camden"), at("copy"));
    // Joins as soon as the certificate that is there has ended.
    let joins = async |instance: &ByAws| {
        eventually("it may join", 10 * SECOND, async || match instance.enrol(Timestamp::now()).await {
            Err(identity::Error::Valid { .. }) => None,
            ended => Some(ended),
        })
        .await
    };
    joins(&original).await.unwrap();
    copy_folder(&original.data_dir, &copy.data_dir);
    joins(&copy).await.unwrap();
    let refused = joins(&original).await.unwrap_err();
    let identity::Error::Refused { status, .. } = refused else { panic!("{refused}") };
    assert!(status.message().contains("joined 2 times, and this instance knows of 1"), "{status}");
    let listed = fleet.alice.agent(&id).await.unwrap();
    assert_eq!(listed.state(), wire::AgentState::Locked);
    assert!(listed.note.contains("two instances"), "{}", listed.note);
    assert_eq!(kinds(&fleet, "agent.locked").await, ["clone: a join with count 1 after 2"]);
    eventually("an alert is raised", 30 * SECOND, async || {
        let list = fleet.alice.client.clone().list_alerts(wire::ListAlertsRequest {}).await.unwrap().into_inner();
        list.alerts.iter().any(|alert| alert.rule == "clone-suspected" && alert.agent_id == "camden").then_some(())
    })
    .await;

    // Nobody knows which is the copy, so neither joins until an admin has looked.
    let refused = joins(&copy).await.unwrap_err();
    assert!(
        matches!(&refused, identity::Error::Refused { status, .. } if status.message().contains("locked")),
        "{refused}"
    );
    let unlock = wire::UnlockAgentRequest { agent_id: "camden".into(), reason: "found".into() };
    fleet.alice.client.clone().unlock_agent(unlock).await.unwrap();
    fleet.register("camden", ACCOUNT, ROLE, true).await.unwrap();
    joins(&original).await.unwrap();
    assert_eq!(fleet.alice.agent(&id).await.unwrap().joins, 3);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sts_that_misbehaves_lets_nobody_in_and_holds_nobody_up() {
    let sts = Sts::start().await.unwrap();
    let elsewhere = Sts::start().await.unwrap();
    let fleet = Fleet::with(0, Options { sts: Some(sts.url()), ..Default::default() }).await;
    let join = fleet.register("camden", ACCOUNT, ROLE, false).await.unwrap();
    let credentials = fleet.folder.path().join("some.credentials");
    let keys =
        "[default]\naws_access_key_id = ASIAEXAMPLEEXAMPLE00\naws_secret_access_key = s\naws_session_token = AAAA\n";
    std::fs::write(&credentials, keys).unwrap();
    let applicant = Applicant::new(&join, services(&credentials, sts.url()).await);
    let said = |arn: &str, id: &str| {
        format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>arn:aws:{arn}</Arn><UserId>{id}</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult>\
             <ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        )
    };
    let role = format!("sts::{ACCOUNT}:assumed-role/{ROLE}/task");
    let good = said(&role, "AROAEXAMPLEEXAMPLE00:task");
    let user = said(&format!("iam::{ACCOUNT}:user/{ROLE}"), "AIDAEXAMPLEEXAMPLE00");
    let there = format!("location: {}/\r\n", elsewhere.url());
    elsewhere.answer(Answer::of("200 OK", "", &good));
    let large = 10 * limits::STS_REPLY_BYTES;
    for (answer, code, word) in [
        (Answer::of("302 Found", &there, ""), Code::Unavailable, "HTTP 302"),
        (Answer::of("307 Temporary Redirect", &there, &good), Code::Unavailable, "HTTP 307"),
        (Answer::of("500 Internal Server Error", "", "<html>no</html>"), Code::Unavailable, "HTTP 500"),
        (Answer::of("201 Created", "", &good), Code::Unavailable, "HTTP 201"),
        (Answer::of("200 OK", "", "{\"GetCallerIdentityResponse\":{}}"), Code::Unavailable, "plain XML"),
        (Answer::of("200 OK", "", &format!("<!DOCTYPE x>{good}")), Code::Unavailable, "plain XML"),
        (Answer::of("200 OK", "", &user), Code::PermissionDenied, "is no role"),
        (Answer::of("200 OK", "", &said(&role, "AROAEXAMPLEEXAMPLE00:other")), Code::Unavailable, "one caller"),
        (
            Answer::of("200 OK", &format!("x: {}\r\n", "y".repeat(64 * 1024)), &good),
            Code::Unavailable,
            "could not be asked",
        ),
        (
            Answer::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n<x>".into()),
            Code::Unavailable,
            "could not be asked",
        ),
        (Answer::Bytes(String::new()), Code::Unavailable, "could not be asked"),
        (Answer::Large(large), Code::Unavailable, "could not be asked"),
        (Answer::Hang, Code::Unavailable, "did not answer within 5 s"),
        (Answer::Drip, Code::Unavailable, "did not answer within 5 s"),
    ] {
        sts.answer(answer.clone());
        let began = Instant::now();
        let status = applicant.join("camden", &TlsKey::generate().unwrap()).await.unwrap_err();
        assert!(status.code() == code && status.message().contains(word), "{word}: {status}");
        assert!(began.elapsed() < limits::STS_CALL + 3 * SECOND, "{word}");
    }
    assert!(elsewhere.asked().is_empty(), "a redirect was followed");
    assert_eq!(fleet.alice.agent(&"camden".parse().unwrap()).await.unwrap().joins, 0);

    // What goes to STS is what was signed, and a length; nothing else that anybody could have put in.
    sts.answer(Answer::of("200 OK", "", &good));
    applicant.join("camden", &TlsKey::generate().unwrap()).await.unwrap();
    let asked = sts.asked().pop().unwrap();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    assert_eq!((lines.next().unwrap(), body), ("POST / HTTP/1.1", BODY));
    let mut names: Vec<&str> = lines.map(|line| line.split(':').next().unwrap()).collect();
    names.sort();
    let all = [
        "authorization",
        "content-length",
        "content-type",
        "host",
        "x-amz-date",
        "x-amz-security-token",
        "x-hub-challenge",
        "x-hub-csr-sha256",
        "x-hub-server-id",
    ];
    assert_eq!(names, all);
    fleet.stop().await;
}
