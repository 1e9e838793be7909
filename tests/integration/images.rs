//! What the core account's registry holds, told by its own agent, and a release's tag for one image: given once, to one
//! image, and never taken from it. Looked up at ECR.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

use serde_json::{Value, json};
use sfdata_common::{
    command::{Action, Images, Mode},
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::{ImageRepository, ImagesListResult, action_result::Kind};
use sfdata_tests::{eventually, fleet::Fleet, process::Process, settings::write_agent};

const DAGSTER: &str = "sfdata/dagster";
const AGENT: &str = "sfdata/agent";
const OCI: &str = "application/vnd.oci.image";

/// What an image is called that was made of this text.
fn digest(of: &str) -> String {
    format!("sha256:{}", hex::encode(sfdata_common::keys::sha256(of.as_bytes())))
}

/// The registry, as whoever pushes to it sees it.
struct Registry<'a> {
    fleet: &'a Fleet,
}

impl Registry<'_> {
    fn account(&self) -> &str {
        &self.fleet.agents[0].account.id
    }

    async fn ask(&self, action: &str, body: Value) -> Value {
        let target = format!("AmazonEC2ContainerRegistry_V20150921.{action}");
        self.fleet.aws().call(self.account(), "ecr", &target, body).await.unwrap()
    }

    async fn make(&self, name: &str) {
        self.ask("CreateRepository", json!({"repositoryName": name, "imageTagMutability": "IMMUTABLE"})).await;
    }

    /// Push an image; the text that makes it.
    async fn push(&self, name: &str, manifest: Value, tag: Option<&str>) -> String {
        let text = manifest.to_string();
        let mut body = json!({"repositoryName": name, "imageManifest": text, "imageDigest": digest(&text),
            "imageManifestMediaType": manifest["mediaType"]});
        if let Some(tag) = tag {
            body["imageTag"] = tag.into();
        }
        self.ask("PutImage", body).await;
        text
    }

    /// Push an image for one platform; its digest.
    async fn image(&self, name: &str, version: &str, tag: Option<&str>) -> String {
        let layer = json!({"mediaType": format!("{OCI}.layer.v1.tar+gzip"), "size": 7, "digest": digest(version)});
        let config = json!({"mediaType": format!("{OCI}.config.v1+json"), "size": 4096, "digest": digest(version)});
        let manifest = json!({"schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"), "config": config,
            "layers": [layer], "annotations": {"version": version}});
        digest(&self.push(name, manifest, tag).await)
    }

    /// Push an image for two platforms; the text that makes it.
    async fn index(&self, name: &str, version: &str, tag: Option<&str>) -> String {
        let mut parts = Vec::new();
        for (os, architecture) in [("linux", "arm64"), ("linux", "amd64"), ("unknown", "unknown")] {
            let part = self.image(name, &format!("{version} {architecture}"), None).await;
            parts.push(json!({"mediaType": format!("{OCI}.manifest.v1+json"), "size": 512, "digest": part,
                "platform": {"os": os, "architecture": architecture}}));
        }
        let index = json!({"schemaVersion": 2, "mediaType": format!("{OCI}.index.v1+json"), "manifests": parts});
        self.push(name, index, tag).await
    }

    /// Every image by digest, with its tags.
    async fn tags(&self, name: &str) -> Vec<(String, Vec<String>)> {
        let said = self.ask("DescribeImages", json!({"repositoryName": name})).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let tags = |image: &Value| image["imageTags"].as_array().into_iter().flatten().map(text).collect();
        said["imageDetails"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| (text(&image["imageDigest"]), tags(image)))
            .collect()
    }

    /// Those that have this tag.
    async fn having(&self, name: &str, tag: &str) -> Vec<String> {
        let tagged = self.tags(name).await.into_iter().filter(|(_, tags)| tags.iter().any(|has| has == tag));
        tagged.map(|(digest, _)| digest).collect()
    }

    /// Requests that gave a tag; of the agent and of whoever pushes.
    async fn puts(&self) -> usize {
        self.fleet.aws().calls(self.account(), "ecr", "PutImage").await.unwrap().len()
    }
}

/// A fleet whose only agent has these repositories.
async fn core(repositories: &[&str]) -> Fleet {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    fleet.agents[0].config.images.repositories = repositories.iter().map(ToString::to_string).collect();
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    fleet
}

fn list(repository: Option<&str>) -> Action {
    Action::Images(Images::List { repository: repository.map(Into::into) })
}

fn promote(repository: &str, digest: &str, tag: &str) -> Action {
    Action::Images(Images::Promote { repository: repository.into(), digest: digest.into(), tag: tag.into() })
}

async fn run(fleet: &Fleet, action: Action) -> Outcome {
    fleet.alice.run(action, &fleet.agents[0].id).await.expect("the command ends")
}

async fn listed(fleet: &Fleet, repository: Option<&str>) -> ImagesListResult {
    match run(fleet, list(repository)).await {
        Outcome::Succeeded(result) => match result.kind {
            Some(Kind::ImagesList(list)) => list,
            other => panic!("another result: {other:?}"),
        },
        other => panic!("not listed: {other:?}"),
    }
}

fn promoted(outcome: Outcome) -> (String, String) {
    match outcome {
        Outcome::Succeeded(result) => match result.kind {
            Some(Kind::ImagesPromote(done)) => (done.image, done.tag),
            other => panic!("another result: {other:?}"),
        },
        other => panic!("not promoted: {other:?}"),
    }
}

fn failure(outcome: Outcome) -> (FailureCode, String) {
    match outcome {
        Outcome::Failed { code, message } => (code, message),
        other => panic!("not failed: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_holds_is_told_by_its_own_account() {
    let fleet = core(&[DAGSTER, AGENT]).await;
    let registry = Registry { fleet: &fleet };
    registry.make(DAGSTER).await;
    registry.make(AGENT).await;
    registry.make("private").await;
    let one = registry.image(DAGSTER, "1", Some("2024.12.0")).await;
    let index = digest(&registry.index(DAGSTER, "2", Some("2024.12.1")).await);
    let part = registry.image(DAGSTER, "2 arm64", None).await; // pushed already
    registry.image("private", "3", Some("1")).await;
    registry.ask("StartImageScan", json!({"repositoryName": DAGSTER, "imageId": {"imageDigest": part}})).await;

    let all = listed(&fleet, None).await;
    assert_eq!(all.registry, format!("{}.dkr.ecr.eu-west-2.amazonaws.com", registry.account()));
    let [dagster, agent] = all.repositories.try_into().unwrap();
    assert_eq!(agent, ImageRepository { name: AGENT.into(), ..Default::default() });
    assert_eq!((dagster.name.as_str(), dagster.left_out), (DAGSTER, 0));
    let of = |wanted: &str| dagster.images.iter().find(|image| image.digest == wanted).unwrap();
    assert_eq!(dagster.images.len(), 2, "parts of an image are no images: {dagster:?}");
    assert_eq!((&of(&one).tags[..], of(&one).size_bytes), (&["2024.12.0".to_owned()][..], 4096));
    assert!(of(&one).pushed_unix_ms > 1_700_000_000_000 && of(&one).findings.is_none());
    assert_eq!(of(&index).platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(of(&index).findings.as_ref().map(|found| (found.critical, found.high)), Some((0, 1)));

    let [alone] = listed(&fleet, Some(AGENT)).await.repositories.try_into().unwrap();
    assert_eq!(alone.name, AGENT);
    let (code, message) = failure(run(&fleet, list(Some("private"))).await);
    assert_eq!(code, FailureCode::NotFound);
    assert!(message.contains("none of the repositories") && message.contains(AGENT), "{message}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_given_a_tag_once_and_stays_whole() {
    let fleet = core(&[DAGSTER]).await;
    let (registry, la) = (Registry { fleet: &fleet }, &fleet.agents[0].id);
    registry.make(DAGSTER).await;
    let index = registry.index(DAGSTER, "1", None).await;
    let before = registry.puts().await;
    let order = promote(DAGSTER, &digest(&index), "2024.12.1");

    let plan = fleet.alice.plan(order.clone(), la).await.unwrap();
    let planned: Vec<_> = plan.changes.iter().map(|c| [&*c.resource, &*c.property, &*c.before, &*c.after]).collect();
    assert_eq!(planned, [["ecr-repository sfdata/dagster", "tag 2024.12.1", "", &*digest(&index)]]);
    assert_eq!(registry.puts().await, before, "a plan changes nothing");

    let agreed = Mode::ActIfPlan(plan.digest[..].try_into().unwrap());
    let image = format!("{}.dkr.ecr.eu-west-2.amazonaws.com/{DAGSTER}@{}", registry.account(), digest(&index));
    assert_eq!(
        promoted(fleet.alice.run_as(order.clone(), agreed, la).await.unwrap()),
        (image.clone(), "2024.12.1".into())
    );
    assert_eq!(promoted(run(&fleet, order.clone()).await).0, image, "what is so already is a success");
    assert_eq!(registry.puts().await, before + 1);
    let calls = fleet.aws().calls(registry.account(), "ecr", "PutImage").await.unwrap();
    let put = &calls.last().unwrap()["params"];
    assert_eq!((&put["imageManifest"], &put["imageDigest"]), (&json!(index), &json!(digest(&index))));
    assert_eq!(put["imageManifestMediaType"], format!("{OCI}.index.v1+json"));
    assert_eq!(registry.having(DAGSTER, "2024.12.1").await, [digest(&index)]);
    assert!(fleet.alice.plan(order, la).await.unwrap().changes.is_empty());

    // Another name for the same image is one more.
    promoted(run(&fleet, promote(DAGSTER, &digest(&index), "stable")).await);
    assert_eq!(registry.having(DAGSTER, "2024.12.1").await, registry.having(DAGSTER, "stable").await);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_promoted_is_told_with_what_is_there() {
    let fleet = core(&[DAGSTER, "sfdata/absent"]).await;
    let registry = Registry { fleet: &fleet };
    registry.make(DAGSTER).await;
    registry.make("private").await;
    let (released, new) = (registry.image(DAGSTER, "1", Some("1.0")).await, registry.image(DAGSTER, "2", None).await);
    let hidden = registry.image("private", "3", None).await;
    let (before, gone) = (registry.puts().await, digest("nothing"));
    for (repository, digest, tag, code, words) in [
        (DAGSTER, &new, "1.0", FailureCode::Conflict, &[&*released, "take another tag"][..]),
        (DAGSTER, &gone, "1.1", FailureCode::NotFound, &["has no image", &gone]),
        ("sfdata/absent", &new, "1.1", FailureCode::NotFound, &["no repository sfdata/absent", "[images]"]),
        ("private", &hidden, "1.1", FailureCode::NotFound, &["none of the repositories", DAGSTER]),
    ] {
        let order = promote(repository, digest, tag);
        for outcome in [
            run(&fleet, order.clone()).await,
            fleet.alice.run_as(order, Mode::PlanOnly, &fleet.agents[0].id).await.unwrap(),
        ] {
            let (found, message) = failure(outcome);
            assert_eq!(found, code, "{message}");
            assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
        }
    }
    assert_eq!(registry.puts().await, before);
    assert_eq!(registry.having(DAGSTER, "1.0").await, [released]);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_repositories_says_what_to_configure() {
    let fleet = Fleet::start(1).await;
    for action in [list(None), promote(DAGSTER, &digest("x"), "1")] {
        let (code, message) = failure(run(&fleet, action).await);
        assert_eq!(code, FailureCode::Rejected);
        assert!(message.contains("[images] repositories"), "{message}");
    }
    assert!(fleet.aws().calls(&fleet.agents[0].account.id, "ecr", "DescribeImages").await.unwrap().is_empty());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_given_once_through_throttling_lost_answers_and_a_rival() {
    let fleet = core(&[DAGSTER]).await;
    let registry = Registry { fleet: &fleet };
    registry.make(DAGSTER).await;
    let [one, two] = [registry.image(DAGSTER, "1", None).await, registry.image(DAGSTER, "2", None).await];
    let break_it = async |action: &str, kind: &str, times: u32| {
        let fault =
            json!({"service": "ecr", "action": action, "kind": kind, "times": times, "account": registry.account()});
        fleet.aws().fault(fault).await.unwrap();
    };
    // Now and then.
    break_it("BatchGetImage", "throttle", 2).await;
    break_it("PutImage", "throttle", 1).await;
    promoted(run(&fleet, promote(DAGSTER, &one, "1.0")).await);

    // For good.
    fleet.aws().heal().await.unwrap();
    break_it("PutImage", "throttle", 100).await;
    let (code, message) = failure(run(&fleet, promote(DAGSTER, &one, "1.1")).await);
    assert_eq!(code, FailureCode::Throttled, "{message}");
    assert!(registry.having(DAGSTER, "1.1").await.is_empty());
    fleet.aws().heal().await.unwrap();
    break_it("DescribeImages", "access_denied", 1).await;
    let (code, message) = failure(run(&fleet, list(None)).await);
    assert_eq!(code, FailureCode::AccessDenied);
    assert!(message.contains("ecr:DescribeImages"), "{message}");

    // Given, and nobody was told: ECR says that the image has it.
    break_it("PutImage", "lost_reply", 1).await;
    promoted(run(&fleet, promote(DAGSTER, &one, "1.2")).await);
    assert_eq!(registry.having(DAGSTER, "1.2").await, [one]);

    // Somebody else gives it to another image between the look and the call: from another account, whose calls go well.
    let rival = {
        let (id, to) = (registry.account().to_owned(), "210000000000");
        let policy = json!({"Version": "2012-10-17", "Statement": [{"Sid": "Push", "Effect": "Allow", "Principal": "*",
            "Action": "ecr:PutImage"}]});
        registry.ask("SetRepositoryPolicy", json!({"repositoryName": DAGSTER, "policyText": policy.to_string()})).await;
        let manifest = json!({"schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"), "by": "another"});
        let put = json!({"registryId": id, "repositoryName": DAGSTER, "imageTag": "1.3",
            "imageManifest": manifest.to_string(), "imageDigest": digest(&manifest.to_string())});
        break_it("PutImage", "throttle", 3).await;
        let tried = fleet.aws().tried(&id, "ecr", "PutImage").await.unwrap();
        let order = fleet.alice.submit(promote(DAGSTER, &two, "1.3"), &[&fleet.agents[0].id]).await.unwrap();
        eventually("it was tried", Duration::from_secs(20), async || {
            (fleet.aws().tried(&id, "ecr", "PutImage").await.ok()? > tried).then_some(())
        })
        .await;
        let target = "AmazonEC2ContainerRegistry_V20150921.PutImage";
        fleet.aws().call(to, "ecr", target, put).await.unwrap();
        let (code, message) = failure(fleet.alice.outcome(order, &fleet.agents[0].id).await.unwrap());
        assert_eq!(code, FailureCode::Conflict, "{message}");
        let rival = digest(&manifest.to_string());
        assert!(message.contains(&rival), "{message}");
        rival
    };
    assert_eq!(registry.having(DAGSTER, "1.3").await, [rival]);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_while_it_gives_a_tag_ends_the_command() {
    let mut fleet = core(&[DAGSTER]).await;
    fleet.stop_agent(0).await;
    let image = {
        let registry = Registry { fleet: &fleet };
        registry.make(DAGSTER).await;
        registry.image(DAGSTER, "1", None).await
    };
    let (folder, la) = (fleet.folder.path().to_owned(), fleet.agents[0].id.clone());
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let start = || Process::start("sfdata-agent", &["--config", &config, "run"], &folder.join("agent.log")).unwrap();
    let registry = Registry { fleet: &fleet };
    let before = registry.puts().await;
    let hang =
        json!({"service": "ecr", "action": "PutImage", "kind": "hang", "times": 1, "account": registry.account()});
    fleet.aws().fault(hang).await.unwrap();
    let id = fleet.alice.submit(promote(DAGSTER, &image, "1.0"), &[&la]).await.unwrap();
    let mut agent = start();
    eventually("it has the manifest", Duration::from_secs(30), async || {
        let looked = fleet.aws().calls(registry.account(), "ecr", "BatchGetImage").await.ok()?;
        (looked.len() >= 2).then_some(())
    })
    .await;
    agent.kill();
    fleet.aws().heal().await.unwrap();
    agent = start();
    promoted(fleet.alice.outcome(id, &la).await.unwrap());
    assert_eq!(registry.having(DAGSTER, "1.0").await, [image]);
    assert_eq!(registry.puts().await, before + 1);
    agent.kill();
    fleet.stop().await;
}
