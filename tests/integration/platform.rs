//! `hubctl platform`: from a bare folder to an LA that is in, and out again; and whether what stacks made is as it should be. AWS
//! is asked as people ask it, by the words of its command line.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use sfdata_proto::v1::ListAgentsRequest;
use sfdata_tests::{
    fleet::{Fleet, binary},
    standin::Standin,
};
use tempfile::TempDir;

use crate::traces::Hubctl;

const SERVICE: &str = "com.amazonaws.vpce.eu-west-2.vpce-svc-0123456789abcdef0";
const ACCOUNT: &str = "300000000007";

/// A folder with parameter files, as an engineer has it before them.
struct Desk {
    folder: TempDir,
    /// Of the hub's operator; empty for who has none.
    home: PathBuf,
    /// Where AWS is, and with which credentials; without it there is no AWS command line.
    aws: Option<(String, PathBuf)>,
}

impl Desk {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    async fn run(&self, program: &Path, args: &[&str]) -> (Option<i32>, String, String) {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/sandbox/tools");
        let mut command = match &self.aws {
            Some((url, credentials)) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", "PATH=$0:$PATH exec \"$@\""]).arg(tools).arg(program);
                command.env("AWS_ENDPOINT_URL", url).env("AWS_SHARED_CREDENTIALS_FILE", credentials);
                command
            }
            None => {
                let mut command = Command::new(program);
                command.env("PATH", "/nowhere");
                command
            }
        };
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null()).env("SFDATA_HOME", &self.home);
        let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ran.status.code(), text(ran.stdout), text(ran.stderr))
    }

    async fn hubctl(&self, args: &[&str]) -> (Option<i32>, String, String) {
        self.run(&binary("hubctl"), &[&["platform"], args].concat()).await
    }

    /// The document that it prints; it has to succeed.
    async fn json(&self, args: &[&str]) -> Value {
        let (code, shown, said) = self.hubctl(&[args, &["-o", "json"]].concat()).await;
        assert_eq!(code, Some(0), "{args:?}: {shown}{said}");
        serde_json::from_str(&shown).unwrap()
    }

    async fn aws(&self, args: &[&str]) -> String {
        let (code, shown, said) = self.run(Path::new("aws"), args).await;
        assert_eq!(code, Some(0), "{args:?}: {said}");
        shown
    }

    async fn init(&self) {
        let told =
            ["--organization", "o-a1b2c3d4e5", "--trust-domain", "sfdata.example", "--alarm-email", "a@example.org"];
        let (code, _, said) = self.hubctl(&[&["init"][..], &told].concat()).await;
        assert_eq!(code, Some(0), "{said}");
        let image = "HubImage=111111111111.dkr.ecr.eu-west-2.amazonaws.com/sfdata/hub:1.2.0\n";
        fs::write(self.path("core.params"), self.read("core.params") + image).unwrap();
    }
}

fn desk(home: PathBuf) -> Desk {
    Desk { folder: tempfile::tempdir().unwrap(), home, aws: None }
}

async fn agents(fleet: &Fleet) -> Vec<String> {
    let listed = fleet.alice.client.clone().list_agents(ListAgentsRequest {}).await.unwrap().into_inner().agents;
    listed.into_iter().map(|agent| agent.agent_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_la_comes_in_by_one_command_and_leaves_by_another() {
    let mut fleet = Fleet::start(1).await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let desk = desk(hubctl.home());
    desk.init().await;
    let (code, _, said) =
        desk.hubctl(&["init", "--organization", "o-1", "--trust-domain", "a", "--alarm-email", ""]).await;
    assert!(code == Some(1) && said.contains("is there already"), "{said}");

    let account = fleet.agents[0].account.id.clone();
    let onboard = ["onboard", "la-0", "--account", &account, "--group", "pilot"];
    let (code, _, said) = desk.hubctl(&onboard).await;
    assert_eq!(code, Some(1), "there is no aws to ask for the hub's service: {said}");
    assert!(said.contains("--hub-service") && said.contains("not installed"), "{said}");

    let with_service = [&onboard[..], &["--hub-service", SERVICE]].concat();
    let done = desk.json(&with_service).await;
    let core = desk.read("core.params");
    assert!(core.contains(&format!("\nAllowedPrincipals=arn:aws:iam::{account}:root\n")), "{core}");
    let params = desk.read("la-0.params");
    for line in
        ["LaName=la-0", "CoreAccount=111111111111", &format!("HubService={SERVICE}"), "TrustPin=sfdata.example/"]
    {
        assert!(params.contains(&format!("\n{line}")), "{line}: {params}");
    }
    assert_eq!(done["connected"], true);
    let lines = done["proposal"]["lines"].as_array().unwrap();
    let cluster = lines.iter().find(|line| line["key"] == "platform.cluster").unwrap();
    assert_eq!(
        (&cluster["value"], &cluster["configured"][0]),
        (&fleet.agents[0].account.cluster.clone().into(), &cluster["value"])
    );
    assert!(done["plan"]["changes"].as_u64().unwrap() > 0, "its buckets are as S3 makes them: {done}");
    assert_eq!(fleet.aws().bucket_changes(&account).await.unwrap(), 0, "nothing was changed");

    // Once more, it finds everything done; and parameters that say another thing are not used.
    assert_eq!(desk.json(&onboard).await["connected"], true);
    assert_eq!(desk.read("core.params"), core);
    fs::write(desk.path("la-0.params"), params.replace("CoreAccount=1111", "CoreAccount=2222")).unwrap();
    let (code, _, said) = desk.hubctl(&onboard).await;
    assert!(code == Some(1) && said.contains("another CoreAccount than 111111111111"), "{said}");

    let offboard = ["offboard", "la-0", "--leave", "as-it-is", "--reason", "left the region"];
    let (code, _, said) = desk.hubctl(&offboard).await;
    assert!(code == Some(1) && said.contains("give --yes"), "{said}");
    assert_eq!(agents(&fleet).await, ["la-0"]);
    let done = desk.json(&[&offboard[..], &["--yes"]].concat()).await;
    assert!(agents(&fleet).await.is_empty());
    assert!(!desk.read("core.params").contains(&account));
    let steps = done["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["done"] == true), "{steps:?}");
    assert_eq!(
        steps.iter().map(|step| step["what"].as_str().unwrap()).collect::<Vec<_>>(),
        ["drained", "platform", "share", "locked out", "forgotten", "network"]
    );
    let kinds: Vec<_> =
        done["audit"]["about_it"].as_array().unwrap().iter().map(|entry| entry["kind"].to_string()).collect();
    assert!(kinds.iter().any(|kind| kind.contains("removed")), "{kinds:?}");
    let shown = desk.json(&["record", "la-0.offboarded.json"]).await;
    assert_eq!((&shown["reason"], &shown["operator"]), (&"left the region".into(), &"bob".into()));
    assert_eq!(shown["audit"]["head"], done["audit"]["head"]);
    let record = desk.read("la-0.offboarded.json").replace("\"payload\": \"e", "\"payload\": \"f");
    fs::write(desk.path("forged.json"), record).unwrap();
    let (code, _, said) = desk.hubctl(&["record", "forged.json"]).await;
    assert_eq!(code, Some(1), "{said}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stacks_made_is_checked_and_what_people_opened_afterwards_is_told() {
    let aws_folder = tempfile::tempdir().unwrap();
    let aws = Standin::start(aws_folder.path()).await.unwrap();
    let credentials = aws.role(aws_folder.path(), ACCOUNT, "engineer", false).await.unwrap();
    let mut desk = desk(PathBuf::from("/nowhere"));
    desk.aws = Some((aws.url(), credentials));
    let pin = "0a".repeat(32);
    let text =
        format!("LaName=la-7\nCoreAccount=111111111111\nHubService={SERVICE}\nTrustPin=sfdata.example/{pin}/{pin}\n");
    fs::write(desk.path("la-7.params"), &text).unwrap();

    let findings = async |code: i32| {
        let (ended, shown, said) = desk.hubctl(&["check", "la-7.params", "-o", "json"]).await;
        assert_eq!(ended, Some(code), "{shown}{said}");
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["findings"].as_array().unwrap().clone()
    };
    let told = |findings: &[Value], area: &str, subject: &str| -> (String, String) {
        let mut of =
            findings.iter().filter(|one| one["area"] == area && one["subject"].as_str().unwrap().contains(subject));
        let one = of.next().unwrap_or_else(|| panic!("{area} {subject}: {findings:#?}"));
        (one["verdict"].as_str().unwrap().to_owned(), one["found"].as_str().unwrap().to_owned())
    };
    // Nothing is there: names are free, and the core account lets this one neither pull nor connect.
    let before = findings(3).await;
    assert_eq!(told(&before, "name", &format!("bucket sfdata-{ACCOUNT}-data-store")).0, "ok");
    assert_eq!(told(&before, "hub", SERVICE).0, "wrong");
    assert_eq!(told(&before, "image", "sfdata/agent").0, "wrong");
    assert_eq!(told(&before, "account", ACCOUNT).0, "ok");

    for stack in ["network", "storage", "database", "dagster-roles"] {
        let template =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/cloudformation/child/{stack}.yaml"));
        let body = format!("file://{}", template.display());
        let text = fs::read_to_string(&template).unwrap();
        let of = |name: &str, value: &str| {
            text.contains(&format!("\n  {name}:\n")).then(|| format!("ParameterKey={name},ParameterValue={value}"))
        };
        let parameters = [of("LaName", "la-7"), of("CoreAccount", "111111111111"), of("HubService", SERVICE)];
        let parameters: Vec<String> = parameters.into_iter().flatten().collect();
        let name = format!("sfdata-{stack}");
        let mut words = vec!["cloudformation", "create-stack", "--stack-name", &name, "--template-body", &body];
        words.extend(["--capabilities", "CAPABILITY_NAMED_IAM", "--parameters"]);
        words.extend(parameters.iter().map(String::as_str));
        desk.aws(&words).await;
    }
    let after = findings(3).await;
    let wrong = |findings: &[Value]| -> Vec<String> {
        let areas = ["stack", "private", "encrypted", "permissions"];
        let of = findings.iter().filter(|one| {
            areas.iter().any(|area| one["area"] == *area) && one["verdict"] != "ok" && one["verdict"] != "not yet"
        });
        of.map(|one| format!("{} {}: {}", one["area"], one["subject"], one["found"])).collect()
    };
    assert_eq!(wrong(&after), Vec::<String>::new());
    let bucket = format!("sfdata-{ACCOUNT}-data-store");
    for (area, subject) in [
        ("private", "vpc-"),
        ("private", "sg-"),
        ("private", &*bucket),
        ("encrypted", &bucket),
        ("encrypted", "sfdata"),
        ("permissions", "sfdata-dagster"),
    ] {
        assert_eq!(told(&after, area, subject).0, "ok", "{area} {subject}");
    }

    // What people do afterwards.
    let subject = |area: &str, start: &str| -> String {
        let mut of = after.iter().filter(|one| one["area"] == area).map(|one| one["subject"].as_str().unwrap());
        of.find(|subject| subject.starts_with(start)).unwrap().to_owned()
    };
    let group = subject("private", "sg-");
    desk.aws(&[
        "ec2",
        "authorize-security-group-ingress",
        "--group-id",
        &group,
        "--ip-permissions",
        "IpProtocol=tcp,FromPort=5432,ToPort=5432,IpRanges=CidrIp=0.0.0.0/0",
    ])
    .await;
    desk.aws(&["s3api", "delete-public-access-block", "--bucket", &bucket]).await;
    let role = subject("permissions", "sfdata-dagster");
    let everything =
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":\"*\"}]}";
    desk.aws(&[
        "iam",
        "put-role-policy",
        "--role-name",
        &role,
        "--policy-name",
        "wide",
        "--policy-document",
        everything,
    ])
    .await;
    let opened = wrong(&findings(3).await);
    for word in [&*group, &bucket, "s3:*"] {
        assert!(opened.iter().any(|line| line.contains(word)), "{word}: {opened:?}");
    }
    assert_eq!(opened.len(), 3, "{opened:?}");
    aws.fault(serde_json::json!({"service": "iam", "action": "*", "kind": "access_denied", "times": null}))
        .await
        .unwrap();
    let denied = findings(3).await;
    let (verdict, found) = told(&denied, "permissions", &role);
    assert!(verdict == "unknown" && found.contains("may not look"), "{verdict} {found}");
}
