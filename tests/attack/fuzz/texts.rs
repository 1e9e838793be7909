//! What people write, and what AWS and Dagster answer: names, policies, configurations, messages and documents.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use sfdata_agent::{
    arrivals, config as agent,
    policy::Sharing,
    services::{Services, ecs, s3},
};
use sfdata_common::{
    Timestamp, config,
    error::chain,
    ids::{AccountId, AgentId, CommandId, GroupName, OperatorName, RoleName},
    image::{self, Image, Repository},
    limits,
    policy::{AgentFacts, Policy, Question, Resource, Side, Verdict},
    trust::Role,
};
use sfdata_hub::config as hub;
use sfdata_tests::dagster::{Faulty, Reply};

use super::{
    engine::Made,
    targets::{of_text, promise, roughly},
};

const JSON: &[&str] = &["{", "}", "[", "]", "\"", ":", ",", "null", "true", "-1", "1e999", "\\u0000", "\\ud800", "[]"];

/// Ids, accounts, roles, groups, images and tags: what is taken is written as it was read, and has a bound.
pub(super) fn names() -> Result<Made> {
    fn read<T: std::str::FromStr + ToString>(text: &str, most: usize) -> Result<bool, String> {
        let Ok(name) = text.parse::<T>() else { return Ok(false) };
        promise(name.to_string() == text, "a name is written otherwise than it was read")?;
        promise(text.len() <= most, "a name has no bound")?;
        Ok(true)
    }
    let seeds = [
        "northshire",
        "alice",
        "111111111111",
        "sfdata-agent",
        "0190a0b0-0000-7000-8000-000000000000",
        "111111111111.dkr.ecr.eu-west-2.amazonaws.com/dagster",
    ];
    let mut seeds: Vec<String> = seeds.map(str::to_owned).into();
    seeds.push(format!("{}@sha256:{}", seeds[5], "0a".repeat(32)));
    Ok(of_text(seeds, &["-", "@sha256:", ".dkr.ecr.", "/", "..", "\u{212a}", "é", "\0", "arn:aws:"], |text| {
        let taken = [
            read::<AgentId>(text, 64)?,
            read::<OperatorName>(text, 64)?,
            read::<GroupName>(text, 64)?,
            read::<AccountId>(text, 12)?,
            read::<RoleName>(text, 64)?,
            read::<Repository>(text, 400)?,
            read::<Image>(text, 500)?,
            image::tag(text.to_owned()).is_ok(),
            read::<CommandId>(text, 36)?,
        ];
        Ok(taken.map(|taken| if taken { "y" } else { "n" }).concat())
    }))
}

/// An LA's policy: whatever it says, asking it ends, and what cannot be evaluated is denied.
pub(super) fn policy() -> Result<Made> {
    let seeds = ["agent.cedar", "hub.cedar"].map(|name| fs::read_to_string(Path::new("deploy/config").join(name)));
    let mut seeds = seeds.into_iter().collect::<Result<Vec<String>, _>>()?;
    seeds.push("permit(principal, action, resource) when { context.hour / 0 > 1 };".into());
    seeds.push("permit(principal, action, resource) when { context.hour * 9223372036854775807 > 1 };".into());
    seeds.push("forbid(principal in Role::\"admin\", action, resource) unless { resource has labels };".into());
    let words =
        &["permit", "forbid", "when {", "};", "(principal, action, resource)", "in ", "Action::\"data\"", "==", "&&"];
    let (operator, agent): (OperatorName, AgentId) = ("alice".parse()?, "northshire".parse()?);
    let facts = AgentFacts {
        groups: vec!["pilot".parse()?],
        labels: BTreeMap::from([("region".to_owned(), "north".to_owned())]),
    };
    Ok(of_text(seeds, words, move |text| {
        let policy = match Policy::parse(text, Side::Agent) {
            Ok(policy) => policy,
            Err(error) => return Ok(format!("no policy {}", roughly(&error))),
        };
        let verdict = policy.ask(&Question {
            operator: &operator,
            roles: &[Role::Operator],
            action: "ecs.restart",
            class: "operate",
            resource: Resource::Agent(&agent, &facts),
            reason: "because",
            now: Timestamp::UNIX_EPOCH,
            signers: 1,
            freezes: &["return"],
        });
        Ok(match verdict {
            Verdict::Allowed => "allowed".into(),
            Verdict::OnApproval => "on approval".into(),
            Verdict::Denied(why) => format!("denied {why}"),
        })
    }))
}

/// A configuration is read from a file, so it is written to one.
fn configuration(example: &str, words: &'static [&'static str], open: fn(&Path) -> String) -> Result<Made> {
    let text = fs::read_to_string(Path::new("deploy/config").join(example))?;
    // The commented examples as well, as settings.
    let bare: Vec<&str> = text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
    let folder = tempfile::tempdir()?;
    Ok(of_text(vec![text.clone(), bare.join("\n")], words, move |text| {
        let path = folder.path().join("config.toml");
        fs::write(&path, text).map_err(|error| error.to_string())?;
        let told = open(&path);
        // Errors quote the file, in lines with a bar.
        let told = told.replace(&path.display().to_string(), "");
        let lines: Vec<String> = told.lines().filter(|line| !line.contains('|')).map(|line| roughly(&line)).collect();
        Ok(lines.join(" "))
    }))
}

/// The hub's configuration.
pub(super) fn hub_toml() -> Result<Made> {
    let words = &[
        "[listen]",
        "[public]",
        "[[alerts.rules]]",
        "= ",
        "\"\"",
        "-1",
        "\"1h\"",
        "\"9999999999h\"",
        "{}",
        "[]",
        "\n",
    ];
    configuration("hub.toml", words, |path| match hub::Config::open(path) {
        Ok(_) => "let in".into(),
        Err(error) => chain(&error).to_string(),
    })
}

/// The agent's configuration.
pub(super) fn agent_toml() -> Result<Made> {
    let words =
        &["[aws]", "[platform]", "[power]", "[arrivals]", "= ", "\"\"", "-1", "\"1h\"", "\"99999999999h\"", "{}", "\n"];
    configuration("agent.toml", words, |path| match config::load::<agent::Config>(path) {
        Ok(config) => config.check().map_or_else(|error| error.to_string(), |()| "let in".into()),
        Err(error) => chain(&error).to_string(),
    })
}

/// Messages of the queue of arrivals: each is understood or parked, and none is lost for another's sake.
pub(super) fn arrivals() -> Result<Made> {
    let record = r#"{"eventSource":"aws:s3","awsRegion":"eu-west-2","eventTime":"2024-05-01T10:00:00.000Z","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"store"},"object":{"key":"a/b+c%20d.csv","size":10,"eTag":"e","versionId":"v1","sequencer":"0055AED6DCD90281E5"}}}"#;
    let bridge = r#"{"version":"0","source":"aws.s3","account":"111111111111","region":"eu-west-2","time":"2024-05-01T10:00:00Z","detail-type":"Object Created","detail":{"bucket":{"name":"store"},"object":{"key":"a/b.csv","size":10,"etag":"e","version-id":"v1","sequencer":"00"}}}"#;
    let seeds = vec![
        format!(r#"{{"Records":[{record}]}}"#),
        bridge.into(),
        r#"{"Service":"Amazon S3","Event":"s3:TestEvent"}"#.into(),
        format!(r#"{{"Type":"Notification","Message":{:?}}}"#, format!(r#"{{"Records":[{record}]}}"#)),
    ];
    Ok(of_text(seeds, JSON, |text| {
        let (arrived, odd) = arrivals::told_by(text, Timestamp::UNIX_EPOCH);
        promise(arrived + odd <= text.len() + 1, "more records than the message has bytes")?;
        Ok(format!("{} {}", "a".repeat(arrived.min(4)), "o".repeat(odd.min(4))))
    }))
}

/// A bucket's policy: others' statements stay as they were found.
pub(super) fn bucket_policy() -> Result<Made> {
    let seed = r#"{"Version":"2012-10-17","Id":"x","Statement":[{"Sid":"SfdataTlsOnly","Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::b"]},{"Effect":"Allow","Principal":{"AWS":"1"},"Action":"s3:GetObject","Resource":"*"}]}"#;
    Ok(of_text(vec![seed.into()], JSON, |text| match s3::policy_again(text) {
        Ok(Some(again)) => {
            promise(again.len() <= limits::BUCKET_POLICY_BYTES, "a policy is larger than S3 takes")?;
            let twice = s3::policy_again(&again).ok().flatten();
            promise(twice.as_ref() == Some(&again), "a policy is another one when it is written again")?;
            Ok("some".into())
        }
        Ok(None) => Ok("none".into()),
        Err(_) => Ok("refused".into()),
    }))
}

/// ECS's answer about a task definition, which is registered again with another image.
pub(super) fn task_definition() -> Result<Made> {
    let seed = r#"{"taskDefinition":{"family":"webserver","taskDefinitionArn":"arn","revision":3,"cpu":"512","containerDefinitions":[{"name":"webserver","image":"a@sha256:0","essential":true,"environment":[{"name":"A","value":"b"}],"secrets":[]}]},"tags":[{"key":"k","value":"v"}]}"#;
    let image: Image =
        format!("111111111111.dkr.ecr.eu-west-2.amazonaws.com/dagster@sha256:{}", "0a".repeat(32)).parse()?;
    let command = CommandId::generate();
    Ok(of_text(vec![seed.into()], JSON, move |text| {
        let Some(request) = ecs::with_image(text.as_bytes(), "webserver", &image, command) else {
            return Ok("none".into());
        };
        promise(request.to_string().contains(&image.to_string()), "the image is not in it")?;
        promise(request.get("revision").is_none(), "what ECS adds is given back to it")?;
        Ok("a request".into())
    }))
}

/// Dagster's answer to a look at all of it, over HTTP.
pub(super) fn dagster() -> Result<Made> {
    let seed = r#"{"data":{"version":"1.13.27","instance":{"daemonHealth":{"allDaemonStatuses":[{"daemonType":"SENSOR","required":true,"lastHeartbeatTime":5.5,"lastHeartbeatErrors":[]}]}},"workspaceOrError":{"__typename":"Workspace","locationEntries":[{"name":"p","loadStatus":"LOADED","locationOrLoadError":{"__typename":"RepositoryLocation"}}]},"active":{"__typename":"Runs","count":1,"results":[{"runId":"a","jobName":"clean","status":"STARTED","creationTime":1.0,"startTime":2.0,"endTime":null,"tags":[]}]},"ended":{"__typename":"Runs","count":0,"results":[]},"lately":{"__typename":"Runs","count":0,"results":[]},"requested":{"__typename":"PartitionBackfills","results":[]},"canceling":{"__typename":"PartitionBackfills","results":[]},"failing":{"__typename":"PartitionBackfills","results":[]},"repositoriesOrError":{"__typename":"RepositoryConnection","nodes":[{"name":"s","location":{"name":"p"},"schedules":[{"name":"n","cronSchedule":"0 6 * * *","executionTimezone":"UTC","scheduleState":{"status":"RUNNING"},"futureTicks":{"results":[{"timestamp":1e10}]}}],"sensors":[]}]}}}"#;
    let unknown = r#"{"data":null,"errors":[{"message":"Cannot query field","locations":[{"line":3,"column":1}]}]}"#;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let answer = Arc::new(Mutex::new(String::new()));
    let said = Arc::clone(&answer);
    let faulty = runtime.block_on(Faulty::start(move |_, _| {
        Reply::Text(200, "application/json", said.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }));
    let platform = agent::Platform {
        cluster: "x".into(),
        webserver: "webserver".into(),
        daemon: "daemon".into(),
        code_servers: vec![],
        other_services: vec![],
        agent_service: None,
        aurora_cluster: None,
        database_instance: None,
        buckets: agent::Buckets::default(),
        storage: agent::Storage::default(),
    };
    let aws = agent::Aws {
        region: "eu-west-2".into(),
        endpoint_url: Some("http://127.0.0.1:9".into()),
        credentials_file: None,
    };
    let settings = agent::Dagster { url: Some(faulty.url.clone()) };
    let services = runtime.block_on(Services::new(&aws, &platform, Sharing::none())).with_dagster(&settings);
    Ok(of_text(vec![seed.into(), unknown.into()], JSON, move |text| {
        text.clone_into(&mut answer.lock().unwrap_or_else(PoisonError::into_inner));
        faulty.forget(); // it would grow with each input
        Ok(match runtime.block_on(services.dagster.observe()) {
            Ok(seen) => format!("seen {}", "r".repeat(seen.active.len().min(3))),
            Err(error) => format!("{error:?}").replace(&faulty.url, ""),
        })
    }))
}
