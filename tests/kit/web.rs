//! The web page as a program sees it that has an operator's certificate, and the real `hubctl dashboard` before it.

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use http::{HeaderMap, Method, Request, StatusCode};
use sfdata_common::Timestamp;
use sfdata_common::{
    channel::{self, SharedTls},
    keys::PublicKey,
    trust::{OperatorKey, Role},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{body::Body, transport::Channel};
use tower::ServiceExt as _;

use crate::{
    eventually,
    fleet::Fleet,
    process::{Run, outcome},
};

const SOON: Duration = Duration::from_secs(20);

/// Somebody with a certificate.
pub struct Viewer(Channel);

/// What came back.
pub struct Answer {
    /// Code.
    pub status: StatusCode,
    /// Head.
    pub headers: HeaderMap,
    /// All of the body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Viewer {
    /// With this certificate, at this hub.
    pub fn new(address: &str, tls: SharedTls) -> Self {
        Self(channel::open(address, tls))
    }

    /// Ask, and leave the body as it comes.
    pub async fn open(&self, method: Method, path: &str, gzip: bool) -> Result<http::Response<Body>> {
        let mut request = Request::builder().method(method).uri(path);
        if gzip {
            request = request.header("accept-encoding", "gzip");
        }
        Ok(self.0.clone().oneshot(request.body(Body::empty())?).await?)
    }

    /// Ask, and take all of it.
    pub async fn ask(&self, method: Method, path: &str, gzip: bool) -> Result<Answer> {
        let (head, body) = self.open(method, path, gzip).await?.into_parts();
        let body =
            tokio::time::timeout(SOON, http_body_util::BodyExt::collect(body)).await.context("an endless body")??;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes().to_vec() })
    }

    /// A page.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, false).await.expect("an answer")
    }
}

/// Let `name` join with the real hubctl, in this role; gives the folder for `--home`.
pub async fn join(fleet: &mut Fleet, name: &str, role: Role) -> Result<String> {
    let home = fleet.folder.path().join(name);
    let home = home.to_str().context("a path")?.to_owned();
    let invite = sfdata_proto::v1::InviteOperatorRequest { name: name.into() };
    let token = fleet.alice.client.clone().invite_operator(invite).await?.into_inner().token;
    let hubctl = async |args: &[&str]| {
        let all = [&["--home", home.as_str(), "-o", "json"], args].concat();
        let (code, out, error) = outcome("hubctl", &all).await;
        anyhow::ensure!(code == Some(0), "hubctl {args:?}: {error}");
        Ok::<_, anyhow::Error>(serde_json::from_str::<serde_json::Value>(&out)?)
    };
    hubctl(&["login", &token]).await?;
    let shown = hubctl(&["key", "show"]).await?;
    let key: PublicKey = shown["public_key"].as_str().context("a key")?.parse()?;
    fleet.bundle.version += 1;
    let expires = Timestamp::now() + Duration::from_secs(3600);
    fleet.bundle.operators.push(OperatorKey { name: name.parse()?, key, roles: vec![role], expires });
    fleet.publish().await?;
    Ok(home)
}

/// A running `hubctl dashboard`.
pub struct Dashboard {
    /// The program.
    pub run: Run,
    /// Where it listens: host and port.
    pub host: String,
    /// The link that works once.
    pub link: String,
}

impl Dashboard {
    /// Let `name` join with the real hubctl, in this role, and open the page.
    pub async fn open(fleet: &mut Fleet, name: &str, role: Role) -> Result<Self> {
        let home = join(fleet, name, role).await?;
        let args = ["--home", &home, "dashboard", "--no-browser"];
        let run = Run::start("hubctl", &args, Path::new(fleet.folder.path()));
        let link = eventually("the dashboard prints its link", SOON, async || {
            let said = run.said();
            said.lines().find(|line| line.starts_with("http://127.0.0.1:")).map(str::to_owned)
        })
        .await;
        let host = link.trim_start_matches("http://").split('/').next().context("a host")?.to_owned();
        Ok(Self { run, host, link })
    }

    /// What a browser, or a program that is none, sends: its answer's code, head and body.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, HashMap<String, String>, String) {
        let mut stream = TcpStream::connect(&self.host).await.expect("it listens");
        let head: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("{method} {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let mut lines = head.lines();
        let code = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a code");
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        (code, headers.collect(), body.to_owned())
    }
}
