//! What runs a fleet's agent as a task of ECS: the stand-in says which task there is, and the agent is started and stopped as
//! Fargate does it, on the same volume, told by a metadata endpoint which revision it runs by.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    eventually,
    fleet::{Fleet, ROLE},
    process::Process,
    settings::write_agent,
    standin::{Account, Standin},
};

/// The service that the agent runs as.
pub const SERVICE: &str = "agent";

/// The task metadata endpoint of all tasks: which one is asked stands in the path.
pub struct Metadata {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Metadata {
    /// Serve on a free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
        Ok(Self { address, task })
    }

    /// What ECS would set in the environment of a task of this revision, by its ARN.
    pub fn of(&self, cluster: &str, definition: &str) -> String {
        let name = definition.rsplit('/').next().unwrap_or_default();
        format!("http://{}/v4/{cluster}/{}", self.address, name.replace(':', "/"))
    }
}

async fn answer(mut stream: TcpStream) -> Result<()> {
    let (mut asked, mut buffer) = (Vec::new(), [0; 1024]);
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await? {
            0 => bail!("half a request"),
            count => asked.extend(&buffer[..count]),
        }
    }
    let text = String::from_utf8(asked)?;
    let path: Vec<&str> = text.split(' ').nth(1).context("no path")?.split('/').collect();
    let (status, body) = match path[..] {
        ["", "v4", cluster, family, revision, "task"] => {
            ("200 OK", json!({"Cluster": cluster, "Family": family, "Revision": revision, "Containers": []}))
        }
        _ => ("404 Not Found", Value::Null),
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    Ok(stream.write_all(format!("{head}{body}").as_bytes()).await?)
}

/// Make the agent's service in its account, with this image; the family of its task definitions.
pub async fn make_service(aws: &Standin, account: &Account, image: &str) -> Result<String> {
    let family = format!("{}-agent", account.cluster);
    let ask = async |action: &str, body: Value| {
        aws.call(&account.id, "ecs", &format!("AmazonEC2ContainerServiceV20141113.{action}"), body).await
    };
    let container = json!({"name": SERVICE, "image": image, "essential": true});
    let definition = json!({"family": family, "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256",
        "executionRoleArn": format!("arn:aws:iam::{}:role/{}", account.id, ROLE),
        "memory": "512", "containerDefinitions": [container]});
    ask("RegisterTaskDefinition", definition).await?;
    // In the network of what is there.
    let asked = json!({"cluster": account.cluster, "services": ["daemon"]});
    let network = ask("DescribeServices", asked).await?["services"][0]["networkConfiguration"].take();
    let service = json!({"cluster": account.cluster, "serviceName": SERVICE, "desiredCount": 1, "launchType": "FARGATE",
        "taskDefinition": family, "networkConfiguration": network});
    ask("CreateService", service).await?;
    Ok(family)
}

/// The task of the agent's service that runs and shall: its id and the ARN of its definition.
pub async fn task(aws: &Standin, account: &Account) -> Result<Option<(String, String)>> {
    let group = format!("service:{SERVICE}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let runs = |task: &&Value| {
        task["group"] == group.as_str() && task["status"] == "RUNNING" && task["desired_status"] == "RUNNING"
    };
    let tasks = aws.all_tasks(&account.id).await?;
    Ok(tasks.iter().find(runs).map(|task| (text(&task["id"]), text(&task["definition"]))))
}

/// The first agent of a fleet, as a process that lives as long as its task.
pub struct Host {
    metadata: Metadata,
    folder: PathBuf,
    account: Account,
    running: Option<(String, Process)>,
    /// Tasks whose agent dials nobody: their image is bad. By a part of the definition's ARN.
    pub cut_off: Option<String>,
    /// Definitions that agents were started by, in order.
    pub started: Vec<String>,
}

impl Host {
    /// Take over the fleet's first agent, which knows its service.
    pub async fn of(fleet: &mut Fleet) -> Result<Self> {
        fleet.stop_agent(0).await;
        fleet.agents[0].config.platform.agent_service = Some(SERVICE.into());
        Ok(Self {
            metadata: Metadata::start().await?,
            folder: fleet.folder.path().to_owned(),
            account: fleet.agents[0].account.clone(),
            running: None,
            cut_off: None,
            started: Vec::new(),
        })
    }

    /// See to it that just the agent of the task that runs is running.
    pub async fn tend(&mut self, fleet: &Fleet) -> Result<()> {
        let task = task(fleet.aws(), &self.account).await?;
        let wanted = task.as_ref().map(|(id, _)| id);
        if self.running.as_ref().map(|(id, _)| id) == wanted {
            return Ok(());
        }
        if let Some((_, mut process)) = self.running.take() {
            process.terminate()?;
            eventually("the agent ends", Duration::from_secs(30), async || process.ended()).await;
        }
        if let Some((id, definition)) = task {
            self.running = Some((id, self.start(fleet, &definition)?));
            self.started.push(definition);
        }
        Ok(())
    }

    /// Kill the agent that runs, and start it again in its task.
    pub async fn kill(&mut self, fleet: &Fleet) -> Result<()> {
        if let Some((_, mut process)) = self.running.take() {
            process.kill();
        }
        self.tend(fleet).await
    }

    fn start(&self, fleet: &Fleet, definition: &str) -> Result<Process> {
        let mut config = fleet.agents[0].config.clone();
        if self.cut_off.as_ref().is_some_and(|of| definition.ends_with(of.as_str())) {
            config.hub.address = Some("127.0.0.1:9".into());
        }
        let file = write_agent(&config, &self.folder.join("agent.toml"))?.display().to_string();
        let metadata = self.metadata.of(&self.account.cluster, definition);
        let args = ["--config", &file, "--task-metadata", &metadata, "run"];
        Process::start("sfdata-agent", &args, &self.folder.join("agent.log"))
    }
}
