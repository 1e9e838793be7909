//! The ECS services of the platform: status, scale, restart, what they run, and their part of the health report.
//!
//! Only services that the configuration names are seen or touched, and tasks of their cluster that an operator names.
//! Scale and restart read first, change at most once and then wait until ECS is there; a wait
//! that ends early (cancelled, deadline) leaves in force what was ordered, and says so. A deploy goes back instead.

mod alone;
mod capacity;
mod definition;
mod deploy;
mod logs;
mod detail;
mod estate;
mod line;
mod metadata;
mod own;
mod page;
mod probe;
mod restart;
mod rollout;
mod run;
mod secret;
mod spans;
mod state;
mod stop;
mod task;
mod tasks;
mod wait;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_ecs::{Client, types::Service};
use serde_json::Value;
use sfdata_common::{command, ids::CommandId, image::Image, limits, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};
use tokio::{
    sync::MutexGuard,
    time::{Instant, timeout},
};
use tracing::warn;

use self::definition::{Definition, Edit};
pub use self::{estate::Closely, logs::LogPlace, state::in_motion};
use super::{
    Error, Plan,
    aws::{Aws, client, failure},
    ecr::Ecr,
    secrets::Secrets,
};
use crate::{
    config::{Platform, Role},
    execute::Job,
};

/// DescribeServices takes so many (ECS API reference).
pub(super) const SERVICES_PER_CALL: usize = 10;

/// What ECS says where Fargate has no room, in events, reasons and failures (ECS developer guide, "API failure reasons").
const NO_CAPACITY: &str = "Capacity is unavailable at this time";

/// A service, as plans name it.
fn resource(name: &str) -> String {
    format!("ecs-service {name}")
}

/// The platform's containers.
#[derive(Debug, Clone)]
pub struct Ecs {
    client: Client,
    ecr: Ecr,
    secrets: Secrets,
    platform: Arc<Platform>,
    /// Image by task definition: a revision never changes, so each is asked for once.
    definitions: Arc<Mutex<HashMap<String, String>>>,
    /// Where ECS tells what task this is.
    metadata: Option<Arc<str>>,
    /// Held by the one action that changes a service.
    turns: Arc<HashMap<String, tokio::sync::Mutex<()>>>,
}

impl Ecs {
    pub(super) fn new(aws: &Aws, platform: &Platform) -> Self {
        Self {
            client: client!(aws, aws_sdk_ecs),
            ecr: Ecr::new(aws),
            secrets: Secrets::new(aws),
            platform: Arc::new(platform.clone()),
            definitions: Arc::default(),
            metadata: None,
            turns: Arc::new(platform.services().map(|(name, _)| (name.to_owned(), Default::default())).collect()),
        }
    }

    /// Told here by ECS what task it is.
    pub(super) fn in_task(self, metadata: Option<&str>) -> Self {
        Self { metadata: metadata.map(|url| url.trim_end_matches('/').into()), ..self }
    }

    /// Do what was ordered.
    pub async fn execute(&self, action: &command::Ecs, job: &Job) -> Result<Kind, Error> {
        match action {
            command::Ecs::Status => tokio::select! {
                biased;
                () = job.cancelled().cancelled() => Err(Error::cancelled("nothing was read yet")),
                status = self.status() => status,
            },
            command::Ecs::Scale { service, desired, deadline } => {
                let (name, role) = self.named(service)?;
                let _turn = self.turn(name, job).await?;
                self.scale(name, role, *desired, *deadline, job).await
            }
            command::Ecs::Restart { service, deadline } => {
                let (name, role) = self.named(service)?;
                let _turn = self.turn(name, job).await?;
                self.restart(name, role, *deadline, job).await
            }
            command::Ecs::Deploy { service, image, rollout } => {
                let services = self.one_or_all(service.as_deref())?;
                let _turns = self.turns(&services, job).await?;
                let wanted = deploy::Wanted::Edit(Edit::Image(image));
                self.deploy(&services, wanted, rollout, job).await
            }
            command::Ecs::Rollback { service, rollout } => {
                let services = self.one_or_all(service.as_deref())?;
                let _turns = self.turns(&services, job).await?;
                self.deploy(&services, deploy::Wanted::Previous, rollout, job).await
            }
            command::Ecs::SetResources { service, size, rollout } => {
                let (name, role) = self.named(service)?;
                let _turn = self.turn(name, job).await?;
                self.deploy(&[(name, role)], deploy::Wanted::Edit(Edit::Size(*size)), rollout, job).await
            }
            command::Ecs::SetEnv { service, environment, rollout } => {
                let (name, role) = self.named(service)?;
                let _turn = self.turn(name, job).await?;
                let wanted = deploy::Wanted::Edit(Edit::Environment(environment));
                self.deploy(&[(name, role)], wanted, rollout, job).await
            }
            command::Ecs::SetCapacity { service, capacity, rollout } => {
                let (name, role) = self.named(service)?;
                let _turn = self.turn(name, job).await?;
                self.set_capacity(name, role, *capacity, rollout, job).await
            }
            command::Ecs::UseSecret { service, variable, secret, rollout } => {
                let (name, role) = self.named(service)?;
                let _turn = self.turn(name, job).await?;
                self.use_secret(name, role, variable, secret.as_deref(), rollout, job).await
            }
            command::Ecs::Run(run) => {
                let (name, _) = self.named(&run.service)?;
                self.run(name, run, job).await
            }
            command::Ecs::StopTask { task, reason, deadline } => self.stop_task(task, reason, *deadline, job).await,
            command::Ecs::Image { service, tag } => {
                let resolve = async {
                    let (name, image) = match self.platform.agent_service.as_deref() {
                        Some(own) if service == own || service == own::ROLE => {
                            (own, self.own_task().await?.ecs.resolve(own, tag).await?)
                        }
                        None if service == own::ROLE => return Err(own::unknown()),
                        _ => {
                            let (name, _) = self.named(service)?;
                            (name, self.resolve(name, tag).await?)
                        }
                    };
                    let (service, tag, image) = (name.into(), tag.clone(), image.to_string());
                    Ok(Kind::EcsImage(wire::EcsImageResult { service, tag, image }))
                };
                tokio::select! {
                    biased;
                    () = job.cancelled().cancelled() => Err(Error::cancelled("nothing was read yet")),
                    image = resolve => image,
                }
            }
        }
    }

    /// The services as they are now, or why they can't be read.
    pub async fn health(&self) -> wire::EcsHealth {
        let cluster = self.platform.cluster.clone();
        let late = || {
            let text = format!("AWS did not tell the state of cluster {cluster} within {:?}", limits::AWS_CALL);
            Error::failed(FailureCode::Unavailable, text)
        };
        match timeout(limits::AWS_CALL, self.all()).await.unwrap_or_else(|_| Err(late())) {
            Ok(services) => wire::EcsHealth { cluster, services, error: String::new() },
            Err(error) => wire::EcsHealth { error: error.health(), cluster, services: Vec::new() },
        }
    }

    /// The only action on this service from now on. The executor already lines up what is ordered by the same
    /// word; this also tells that a role and a name mean the same service.
    async fn turn(&self, name: &str, job: &Job) -> Result<Option<MutexGuard<'_, ()>>, Error> {
        let Some(turn) = self.turns.get(name).filter(|_| !job.only_plans()) else { return Ok(None) };
        tokio::select! {
            biased;
            () = job.cancelled().cancelled() => {
                let done = if job.resumed() { "what was changed before the restart stays" } else { "nothing was changed" };
                Err(Error::cancelled(format!("{done}: another action on {name} was still at work")))
            }
            turn = turn.lock() => Ok(Some(turn)),
        }
    }

    /// The only action on all of these. Nobody else waits for a second one, so that none wait for each other.
    async fn turns(&self, services: &[(&str, Role)], job: &Job) -> Result<Vec<Option<MutexGuard<'_, ()>>>, Error> {
        let mut turns = Vec::with_capacity(services.len());
        for (name, _) in services {
            turns.push(self.turn(name, job).await?);
        }
        Ok(turns)
    }

    async fn scale(&self, name: &str, role: Role, desired: u32, deadline: Duration, job: &Job) -> Result<Kind, Error> {
        let ends = Instant::now() + deadline;
        if role == Role::Daemon && desired > 1 {
            return Err(Error::failed(
                FailureCode::Rejected,
                format!(
                    "{name} is Dagster's daemon and must never run more than once: two would launch every schedule \
                     twice; order 0 or 1, not {desired}"
                ),
            ));
        }
        let wanted = i32::try_from(desired).unwrap_or(i32::MAX);
        let before = self.look(name).await?.desired_count();
        let plan = Plan::default().change(resource(name), "desiredCount", before.to_string(), desired.to_string());
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        let done = if before == wanted {
            format!("the desired count of {name} was already {desired} and stays so")
        } else {
            self.set_desired(name, wanted, job).await?;
            format!("the desired count of {name} was set to {desired} and stays so")
        };
        let state = self.wait(name, role, ends, job, &done, &mut state::Scaling::to(desired)).await?;
        Ok(self.reached(state).await)
    }

    async fn set_desired(&self, name: &str, desired: i32, job: &Job) -> Result<(), Error> {
        let cluster = &self.platform.cluster;
        job.progress(format!("setting the desired count of {name} to {desired}"), None);
        let call = self.client.update_service().cluster(cluster).service(name).desired_count(desired);
        call.send().await.map_err(|e| {
            failure(
                format_args!("set the desired count of service {name} in cluster {cluster} to {desired}"),
                "ecs:UpdateService",
                e,
            )
        })?;
        Ok(())
    }

    /// The result of an action that has been waited for. It was reached, whether or not its image can be told.
    async fn reached(&self, mut state: wire::EcsServiceState) -> Kind {
        self.with_image(&mut state).await;
        Kind::EcsService(wire::EcsServiceResult { service: Some(state) })
    }

    async fn with_image(&self, state: &mut wire::EcsServiceState) {
        if let Err(error) = self.add_images(std::slice::from_mut(state)).await {
            warn!(service = state.name, %error, "the image of a service is not known");
        }
    }

    /// A service of the platform by name or role.
    fn named(&self, asked: &str) -> Result<(&str, Role), Error> {
        self.platform.service(asked).ok_or_else(|| {
            let known: Vec<_> =
                self.platform.services().map(|(name, role)| format!("{name} ({})", role.as_str())).collect();
            Error::failed(
                FailureCode::NotFound,
                format!("{asked} is no service of this platform, which has {}; order one of these", known.join(", ")),
            )
        })
    }

    /// This service, or all that are Dagster's own.
    fn one_or_all(&self, asked: Option<&str>) -> Result<Vec<(&str, Role)>, Error> {
        match asked {
            Some(service) => Ok(vec![self.named(service)?]),
            None => Ok(self.dagster()),
        }
    }

    /// All services of the platform, with their images.
    async fn all(&self) -> Result<Vec<wire::EcsServiceState>, Error> {
        let mut states = self.states(&self.found().await?);
        self.add_images(&mut states).await?;
        Ok(states)
    }

    /// The services of the platform that there are.
    async fn found(&self) -> Result<Vec<Service>, Error> {
        let names: Vec<_> = self.platform.services().map(|(name, _)| name).collect();
        self.describe(&names).await
    }

    /// All services of the platform, also those that are missing.
    fn states(&self, found: &[Service]) -> Vec<wire::EcsServiceState> {
        let state_of = |(name, role)| match found.iter().find(|service| service.service_name() == Some(name)) {
            Some(service) => state::state(service, role),
            None => state::missing(name, role),
        };
        self.platform.services().map(state_of).collect()
    }

    /// One service, which has to exist.
    async fn look(&self, name: &str) -> Result<Service, Error> {
        if let Some(service) = self.describe(&[name]).await?.pop() {
            return Ok(service);
        }
        let there = self.found().await?;
        let there: Vec<_> = there.iter().filter_map(Service::service_name).collect();
        let there = if there.is_empty() { "none of the platform's services".into() } else { there.join(", ") };
        Err(Error::failed(
            FailureCode::NotFound,
            format!(
                "cluster {} has no service {name}; there is {there}; order one of these, or correct [platform]",
                self.platform.cluster
            ),
        ))
    }

    /// Those of these services that exist. A deleted one is shown by ECS for some time, as INACTIVE.
    async fn describe(&self, names: &[&str]) -> Result<Vec<Service>, Error> {
        let cluster = &self.platform.cluster;
        let mut found = Vec::with_capacity(names.len());
        for some in names.chunks(SERVICES_PER_CALL) {
            let services = some.iter().map(ToString::to_string).collect();
            let call = self.client.describe_services().cluster(cluster).set_services(Some(services));
            let answer = call.send().await.map_err(|e| {
                failure(
                    format_args!("read the state of {} in cluster {cluster}", some.join(", ")),
                    "ecs:DescribeServices",
                    e,
                )
            })?;
            found.extend(answer.services.unwrap_or_default());
        }
        found.retain(|service| service.status() != Some("INACTIVE"));
        Ok(found)
    }
}

/// The request that registers a revision again with another image, from ECS's own answer; none where that can't be told.
pub fn with_image(answer: &[u8], service: &str, image: &Image, command: CommandId) -> Option<Value> {
    Definition::parse(answer)?.edited(Edit::Image(image), service, command)
}
