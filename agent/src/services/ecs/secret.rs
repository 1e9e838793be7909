//! A variable of a service from Secrets Manager, in place of a plain value in its task definition.
//!
//! A deploy with a step before it: the value is read from the definition and put into a secret, by a token of the command,
//! so that a repetition makes no second one. It is never in a plan, a note, a message or a log.

use sfdata_common::{command, outcome::FailureCode};
use sfdata_proto::v1::{EcsSecretResult, action_result::Kind};
use tokio::time::Instant;

use super::{
    Ecs,
    definition::{Definition, Edit, FromSecret},
    deploy::Wanted,
};
use crate::{
    config::Role,
    execute::Job,
    services::{Error, secrets::Owner},
};

impl Ecs {
    pub(super) async fn use_secret(
        &self,
        name: &str,
        role: Role,
        variable: &str,
        secret: Option<&str>,
        rollout: &command::Rollout,
        job: &Job,
    ) -> Result<Kind, Error> {
        let service = match job.checkpoint() {
            Some(_) => {
                let seen = self.look_by(name, Instant::now() + rollout.deadline, job).await;
                seen.map_err(|error| error.after("its deployment may be under way"))?
            }
            None => self.look(name).await?,
        };
        let definition = service.task_definition().unwrap_or_default().to_owned();
        let owner = self.owner(name, variable);
        let made = made_arn(&definition, &owner.secret())?;
        let make = owner.secret();
        let edit = match secret {
            Some(arn) => FromSecret { variable, arn, make: None },
            None => FromSecret { variable, arn: &made, make: Some(&make) },
        };
        if secret.is_none() && job.checkpoint().is_none() {
            self.secrets.ours(&owner).await?; // one of somebody else's is not touched
        }
        let services = [(name, role)];
        match self.deploy(&services, Wanted::Edit(Edit::Secret(edit)), rollout, job).await {
            Ok(Kind::EcsService(reached)) => {
                // What was reached stays so, whether or not the secret's whole ARN can be told.
                let now = reached.service.as_ref().map_or("", |service| &service.task_definition);
                let now = self.definition(now).await.ok();
                let secret = now.as_ref().and_then(|now| now.secret(name, variable)).unwrap_or(edit.arn).to_owned();
                let variable = variable.to_owned();
                Ok(Kind::EcsSecret(EcsSecretResult { service: reached.service, variable, secret }))
            }
            Err(Error::Failed { code, message }) if cannot_read(&message) => {
                let role = self.definition(&definition).await.map(|old| old.execution_role().to_owned());
                let role = role.unwrap_or_else(|_| "of the task definition".into());
                Err(Error::failed(
                    code,
                    format!(
                        "{message}; execution role {role} needs secretsmanager:GetSecretValue on {}*, and kms:Decrypt \
                         where that has a key of its own",
                        edit.arn
                    ),
                ))
            }
            other => other,
        }
    }

    /// The ARN of the secret that an edit needs, made now; none where it needs none.
    pub(super) async fn made(
        &self,
        edit: Edit<'_>,
        old: &Definition,
        name: &str,
        job: &Job,
    ) -> Result<Option<String>, Error> {
        let Edit::Secret(FromSecret { variable, make: Some(_), .. }) = edit else { return Ok(None) };
        let Some(value) = old.variable(name, variable) else { return Ok(None) };
        job.progress(format!("keeping {variable} of {name} in Secrets Manager"), None);
        self.secrets.keep(&self.owner(name, variable), value, job.command()).await.map(Some)
    }

    fn owner<'a>(&'a self, service: &'a str, variable: &'a str) -> Owner<'a> {
        Owner { cluster: &self.platform.cluster, service, variable }
    }
}

/// Where a secret of this name will be: in the account and region of the task definition.
fn made_arn(definition: &str, secret: &str) -> Result<String, Error> {
    match definition.split(':').collect::<Vec<_>>()[..] {
        ["arn", partition, "ecs", region, account, ..] => {
            Ok(format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{secret}"))
        }
        _ => {
            let text = format!("ECS names the task definition {definition:?}, which is no ARN; try again");
            Err(Error::failed(FailureCode::Unavailable, text))
        }
    }
}

/// ECS's words for a task whose secret could not be fetched (developer guide, "ResourceInitializationError"). It begins with
/// "unable to pull secrets or registry auth" also where it is ECR that cannot be reached.
fn cannot_read(message: &str) -> bool {
    let message = message.to_lowercase();
    let places = ["secret from asm", "secrets manager", "secretsmanager"];
    message.contains("resourceinitializationerror") && places.iter().any(|place| message.contains(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_beside_its_task_definition() {
        let definition = "arn:aws:ecs:eu-west-2:111111111111:task-definition/code:7";
        assert_eq!(
            made_arn(definition, "sfdata/c/code/PG"),
            Ok("arn:aws:secretsmanager:eu-west-2:111111111111:secret:sfdata/c/code/PG".into())
        );
        assert!(made_arn("code:7", "s").is_err());
    }

    #[test]
    fn only_what_names_secrets_manager_is_of_a_secret() {
        let pull = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: ";
        assert!(cannot_read(&format!("{pull}unable to retrieve secret from asm: AccessDeniedException")));
        assert!(cannot_read(&format!("{pull}failed to fetch secret x from Secrets Manager: AccessDeniedException")));
        for other in ["unable to retrieve ecr registry auth: i/o timeout", "unable to pull image"] {
            assert!(!cannot_read(&format!("{pull}{other}")), "{other}");
        }
        assert!(!cannot_read("CannotPullContainerError: secrets manager"));
    }
}
