//! Secrets Manager: where values go that a task definition has in the clear. Nothing is ever read from it.
//!
//! A secret's name says whose it is, and a tag that the agent made it; what has the name and not the tag is somebody else's.

use std::fmt;

use aws_sdk_secretsmanager::{Client, types::Tag};
use sfdata_common::{ids::CommandId, outcome::FailureCode};

use super::{
    Error,
    aws::{Aws, client, failure},
};

/// Says which variable the agent made a secret for.
const OWNER: &str = "sfdata:variable";
/// Says which command made it.
const COMMAND: &str = "sfdata:command";

/// Whose value a secret has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) cluster: &'a str,
    pub(super) service: &'a str,
    pub(super) variable: &'a str,
}

impl Owner<'_> {
    /// The name of the secret.
    pub(super) fn secret(&self) -> String {
        format!("sfdata/{self}")
    }
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.service, self.variable)
    }
}

/// The account's secrets.
#[derive(Debug, Clone)]
pub struct Secrets {
    client: Client,
}

impl Secrets {
    pub(super) fn new(aws: &Aws) -> Self {
        Self { client: client!(aws, aws_sdk_secretsmanager) }
    }

    /// The ARN of the secret that the agent made for this variable, if it did. One of that name that it did not make is
    /// an error.
    pub(super) async fn ours(&self, owner: &Owner<'_>) -> Result<Option<String>, Error> {
        let name = owner.secret();
        let answer = match self.client.describe_secret().secret_id(&name).send().await {
            Ok(answer) => answer,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                return Ok(None);
            }
            Err(error) => {
                return Err(failure(format_args!("look for secret {name}"), "secretsmanager:DescribeSecret", error));
            }
        };
        let rejected = |text: String| Error::failed(FailureCode::Rejected, text);
        let owned = owner.to_string();
        if !answer.tags().iter().any(|tag| tag.key() == Some(OWNER) && tag.value() == Some(&owned)) {
            return Err(rejected(format!(
                "there is a secret {name} that the agent did not make, and which it does not touch; refer to it with \
                 --secret, or take it away"
            )));
        }
        if answer.deleted_date().is_some() {
            return Err(rejected(format!("secret {name} is to be deleted; restore it, or wait until it is gone")));
        }
        Ok(answer.arn().map(Into::into))
    }

    /// Have the secret of this variable hold this value; its ARN. To be repeated at will: the token is the command's.
    pub(super) async fn keep(&self, owner: &Owner<'_>, value: &str, command: CommandId) -> Result<String, Error> {
        let (name, token) = (owner.secret(), command.to_string());
        let tag = |key: &str, value: String| Tag::builder().key(key).value(value).build();
        let call = self
            .client
            .create_secret()
            .name(&name)
            .description(format!("{} of ECS service {} in cluster {}", owner.variable, owner.service, owner.cluster))
            .secret_string(value)
            .client_request_token(&token)
            .tags(tag(OWNER, owner.to_string()))
            .tags(tag(COMMAND, token.clone()));
        match call.send().await {
            Ok(made) => return made.arn().map(Into::into).ok_or_else(|| unnamed(&name)),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_exists_exception()) => {}
            Err(error) => {
                let needs = "secretsmanager:CreateSecret and secretsmanager:TagResource";
                return Err(failure(format_args!("make secret {name}"), needs, error));
            }
        }
        let arn = self.ours(owner).await?.ok_or_else(|| unnamed(&name))?;
        let call = self.client.put_secret_value().secret_id(&arn).secret_string(value).client_request_token(token);
        let put = call.send().await;
        put.map_err(|e| {
            failure(format_args!("put a new value into secret {name}"), "secretsmanager:PutSecretValue", e)
        })?;
        Ok(arn)
    }
}

fn unnamed(name: &str) -> Error {
    let text = format!("Secrets Manager answered without the ARN of secret {name}; try again");
    Error::failed(FailureCode::Unavailable, text)
}
