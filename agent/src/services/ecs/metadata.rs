//! What ECS tells a task of itself, by an address that only its own containers reach (ECS developer guide, "Task metadata
//! endpoint version 4 for tasks on Fargate").

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use sfdata_common::{error::chain, limits, outcome::FailureCode};
use tokio::time::timeout;

use super::Ecs;
use crate::{config::Platform, services::Error};

/// The part of the answer that says where the task is, and by which revision it runs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    /// Name or ARN.
    cluster: String,
    family: String,
    revision: String,
}

/// The task that the agent itself runs in.
#[derive(Debug)]
pub(super) struct Own {
    /// ECS, looked at in the agent's own cluster.
    pub(super) ecs: Ecs,
    /// `family:revision`.
    pub(super) definition: String,
}

impl Ecs {
    /// The task that the agent itself runs in.
    pub(super) async fn own_task(&self) -> Result<Own, Error> {
        let url = self.metadata.as_deref().ok_or_else(|| {
            let text = "this agent is no task of ECS: nothing says where ECS would tell it which task definition it runs \
                        by (ECS_CONTAINER_METADATA_URI_V4); upgrade it in the way in which it was started";
            Error::failed(FailureCode::Rejected, text)
        })?;
        let asked = timeout(limits::TASK_METADATA, ask(&format!("{url}/task"))).await;
        let told = asked.unwrap_or_else(|_| Err(format!("no answer within {:?}", limits::TASK_METADATA)));
        let Told { cluster, family, revision } = told.map_err(|why| {
            let text = format!("ECS does not tell this task at {url}/task what it is: {why}; try again");
            Error::failed(FailureCode::Unavailable, text)
        })?;
        let cluster = cluster.rsplit('/').next().unwrap_or_default().to_owned();
        let platform = Platform { cluster, ..(*self.platform).clone() }.into();
        Ok(Own { ecs: Self { platform, ..self.clone() }, definition: format!("{family}:{revision}") })
    }
}

async fn ask(url: &str) -> Result<Told, String> {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(url).body(Empty::new()).map_err(|error| error.to_string())?;
    let answer = client.request(request).await.map_err(|error| chain(&error).to_string())?;
    if answer.status() != StatusCode::OK {
        return Err(format!("it answers with {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), limits::TASK_METADATA_BYTES).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| format!("it answers with something else: {error}"))
}
