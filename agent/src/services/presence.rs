//! Whether what the configuration names exists: for `check-config --aws`, and once when the agent starts.
//!
//! The names themselves are asked for with the permissions that the agent has anyway; only where one is missing is
//! it listed what there is. What AWS does not tell is neither there nor missing. A missing name does not end `run`: a
//! template may be replacing the service just now, and an agent that is gone could not say so.

use std::{collections::BTreeSet, fmt};

use sfdata_common::{limits, outcome::FailureCode, retry::jittered};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Error, Services, listed, survey::Survey};
use crate::config::{Platform, Role};

/// Something that the configuration names and the account does not have.
#[derive(Debug, thiserror::Error)]
#[error("{key} {name:?} names no {kind}; {there}; correct it, or see what sfdata-agent discover proposes")]
pub struct Missing {
    /// Such as `platform.daemon`.
    pub key: String,
    /// What was given.
    pub name: String,
    /// What it should be.
    pub kind: String,
    /// What there is instead.
    pub there: String,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Presence {
    /// What does not exist.
    pub missing: Vec<Missing>,
    /// What AWS did not tell.
    pub unknown: Vec<Error>,
}

/// A configuration that AWS does not bear out.
#[derive(Debug, thiserror::Error)]
pub struct Unfounded(Presence);

impl fmt::Display for Unfounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Presence { missing, unknown } = &self.0;
        if !missing.is_empty() {
            write!(f, "the configuration names what does not exist:")?;
            missing.iter().try_for_each(|missing| write!(f, "\n  - {missing}"))?;
        }
        if !unknown.is_empty() {
            let lead = if missing.is_empty() { "" } else { "\n" };
            write!(f, "{lead}AWS did not tell whether what the configuration names exists:")?;
            unknown.iter().try_for_each(|error| write!(f, "\n  - {error}"))?;
        }
        Ok(())
    }
}

impl Presence {
    /// An error unless everything that is named exists.
    pub fn check(self) -> Result<(), Unfounded> {
        if self.missing.is_empty() && self.unknown.is_empty() { Ok(()) } else { Err(Unfounded(self)) }
    }

    fn add(&mut self, found: Result<Vec<Missing>, Error>) {
        match found {
            Ok(missing) => self.missing.extend(missing),
            Err(error) => self.unknown.push(error),
        }
    }
}

impl Services {
    /// Look for everything that the configuration names.
    pub async fn presence(&self, platform: &Platform) -> Presence {
        let survey = Survey::over(&self.aws);
        let mut presence = Presence::default();
        let (containers, database) = tokio::join!(containers(&survey, platform), database(&survey, platform));
        presence.add(containers);
        presence.add(database);
        presence.add(self.instance(platform).await);
        for (role, name) in platform.buckets.named() {
            presence.add(bucket(&survey, role, name).await);
        }
        presence
    }

    async fn instance(&self, platform: &Platform) -> Result<Vec<Missing>, Error> {
        let Some(name) = &platform.database_instance else { return Ok(Vec::new()) };
        let Err(error) = self.aurora.look_at_instance(name).await else { return Ok(Vec::new()) };
        let there = instead(error, name, self.aurora.instances()).await?;
        let (key, kind) = ("platform.database_instance".into(), "DB instance".into());
        Ok(vec![Missing { key, name: name.clone(), kind, there }])
    }

    /// Look until AWS has told, and log what is missing and what was not told, each once.
    pub async fn tell_presence(self, platform: Platform, stop: CancellationToken) {
        let (mut told, mut warned) = (BTreeSet::new(), false);
        loop {
            let presence = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                presence = self.presence(&platform) => presence,
            };
            for missing in presence.missing.iter().filter(|missing| told.insert(missing.to_string())) {
                error!(%missing, "the configuration names what does not exist");
            }
            for unknown in presence.unknown.iter().filter(|_| !warned) {
                warn!(error = %unknown, "AWS did not tell whether what the configuration names exists");
            }
            warned |= !presence.unknown.is_empty();
            let later = |error: &Error| {
                matches!(error, Error::Failed { code: FailureCode::Unavailable | FailureCode::Throttled, .. })
            };
            if !presence.unknown.iter().any(later) {
                if presence.check().is_ok() {
                    info!("everything that the configuration names exists");
                }
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(jittered(limits::HEALTH_LOOK_REST, 0.1)) => {}
            }
        }
    }
}

async fn containers(survey: &Survey, platform: &Platform) -> Result<Vec<Missing>, Error> {
    let cluster = &platform.cluster;
    let names: Vec<String> = platform.services().map(|(name, _)| name.to_owned()).collect();
    let found = match survey.existing(cluster, &names, None).await {
        Ok(found) => found,
        Err(error) => {
            let there = instead(error, cluster, survey.clusters()).await?;
            let (key, kind) = ("platform.cluster".into(), "ECS cluster".into());
            return Ok(vec![Missing { key, name: cluster.clone(), kind, there }]);
        }
    };
    let exists = |name: &str| found.iter().any(|service| service.service_name() == Some(name));
    let missing: Vec<(&str, Role)> = platform.services().filter(|(name, _)| !exists(name)).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let there = listed(survey.services(cluster).await);
    let one = |(name, role): (&str, Role)| {
        let kind = format!("service of ECS cluster {cluster}");
        Missing { key: role.key().into(), name: name.into(), kind, there: there.clone() }
    };
    Ok(missing.into_iter().map(one).collect())
}

async fn database(survey: &Survey, platform: &Platform) -> Result<Vec<Missing>, Error> {
    let Some(name) = &platform.aurora_cluster else { return Ok(Vec::new()) };
    let error = match survey.databases(Some(name)).await {
        Ok(found) if !found.is_empty() => return Ok(Vec::new()),
        Ok(_) => Error::failed(FailureCode::NotFound, format!("RDS shows no Aurora cluster {name}")),
        Err(error) => error,
    };
    let all = async { Ok(survey.databases(None).await?.into_iter().map(|database| database.name).collect()) };
    let there = instead(error, name, all).await?;
    let (key, kind) = ("platform.aurora_cluster".into(), "Aurora cluster".into());
    Ok(vec![Missing { key, name: name.clone(), kind, there }])
}

async fn bucket(survey: &Survey, role: &str, name: &str) -> Result<Vec<Missing>, Error> {
    let Err(error) = survey.look_at_bucket(name).await else { return Ok(Vec::new()) };
    let there = instead(error, name, survey.buckets()).await?;
    let key = format!("platform.buckets.{}", role.replace('-', "_"));
    Ok(vec![Missing { key, name: name.into(), kind: "bucket of this account".into(), there }])
}

/// What there is, when `name` could not be read because it is not there. The agent's permissions often cover no
/// other name than the right one, so a denial is one of those cases where the list is without it.
async fn instead(
    error: Error,
    name: &str,
    all: impl Future<Output = Result<Vec<String>, Error>>,
) -> Result<String, Error> {
    match error {
        Error::Failed { code: FailureCode::NotFound, .. } => Ok(listed(all.await)),
        Error::Failed { code: FailureCode::AccessDenied, .. } => match all.await {
            Ok(names) if !names.iter().any(|one| one == name) => Ok(listed(Ok(names))),
            _ => Err(error),
        },
        _ => Err(error),
    }
}
