//! Starting and stopping the database: wherever it is found, it is brought to where it was ordered.
//!
//! What is on its way elsewhere is waited for first, because RDS refuses both calls then. The calls may be repeated
//! by the SDK: RDS refuses the second one, and the next look shows the effect of the first.

use std::time::Duration;

use sfdata_common::{limits, outcome::FailureCode};
use sfdata_proto::v1::action_result::Kind;

use super::{Aurora, is_lost, of::Of, reached, watch::Watch};
use crate::{
    execute::Job,
    services::{Error, Plan, aws::failure},
};

/// Where the database is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    Off,
}

impl Power {
    /// How RDS calls it when it is there.
    fn status(self) -> &'static str {
        match self {
            Self::On => "available",
            Self::Off => "stopped",
        }
    }

    /// How RDS calls it on the way there.
    fn moving(self) -> &'static str {
        match self {
            Self::On => "starting",
            Self::Off => "stopping",
        }
    }

    fn opposite(self) -> Self {
        match self {
            Self::On => Self::Off,
            Self::Off => Self::On,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::On => "start",
            Self::Off => "stop",
        }
    }
}

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ordered {
    NotYet,
    /// RDS took the call, and may still show the state before it.
    Taken,
    /// RDS was seen on the way.
    Moving,
}

/// What a status asks for.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Reached,
    Order,
    Wait,
    /// Somebody turned it back.
    TurnedBack,
    /// It gets nowhere by itself.
    Lost,
}

fn judge(power: Power, status: &str, ordered: Ordered) -> Step {
    if status == power.status() {
        return Step::Reached;
    }
    let back = status == power.opposite().status();
    match ordered {
        _ if is_lost(status) => Step::Lost,
        Ordered::NotYet if back => Step::Order,
        Ordered::Moving if back || status == power.opposite().moving() => Step::TurnedBack,
        _ => Step::Wait,
    }
}

impl Aurora {
    pub(super) async fn power(&self, of: Of<'_>, power: Power, deadline: Duration, job: &Job) -> Result<Kind, Error> {
        let name = of.name();
        let mut watch = Watch::new(job, deadline);
        let mut seen = watch.read(|| self.see(of)).await?;
        let before = &*seen.status;
        let plan = match before == power.moving() {
            true => Plan::default(),
            false => Plan::default().change(of.resource(), "status", before, power.status()),
        };
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        let (mut ordered, mut refusals) = (Ordered::NotYet, 0);
        loop {
            let status = &*seen.status;
            if ordered != Ordered::NotYet && status == power.moving() {
                ordered = Ordered::Moving;
            }
            match judge(power, status, ordered) {
                Step::Reached => match watch.read(|| self.on_the_way(of)).await? {
                    Some(instance) => watch.wait(format!("{name} is {status}, {instance}"), None).await?,
                    None => return Ok(reached(seen)),
                },
                Step::Order => match self.order(power, of).await {
                    Ok(()) => {
                        ordered = Ordered::Taken;
                        watch.did(format!("{name} was told to {}", power.verb()));
                    }
                    // It has begun to move since the look, or a backup is being taken.
                    Err(Error::Failed { code: FailureCode::Conflict, .. }) if refusals < limits::AWS_TRIES => {
                        refusals += 1;
                        watch.wait(format!("RDS does not {} {name} yet", power.verb()), None).await?;
                    }
                    Err(error) => {
                        watch.unsure(format!("{name} may have been told to {}", power.verb()), error).await?;
                    }
                },
                Step::Wait => watch.wait(format!("{name} is {status}"), None).await?,
                Step::TurnedBack => {
                    let text = format!("{name} is {status}: somebody else ordered the opposite; ask who did");
                    return Err(watch.lost(FailureCode::Conflict, text));
                }
                Step::Lost => {
                    let text = format!("{name} is {status}, which RDS does not leave by itself; look at its events");
                    return Err(watch.lost(FailureCode::Rejected, text));
                }
            }
            seen = watch.read(|| self.see(of)).await?;
        }
    }

    pub(super) async fn order(&self, power: Power, of: Of<'_>) -> Result<(), Error> {
        let tried = match of {
            Of::Cluster(name) => format!("{} Aurora cluster {name}", power.verb()),
            Of::Instance(name) => format!("{} DB instance {name}", power.verb()),
        };
        match (power, of) {
            (Power::On, Of::Cluster(name)) => {
                let call = self.client.start_db_cluster().db_cluster_identifier(name).send().await;
                call.map(|_| ()).map_err(|e| failure(tried, "rds:StartDBCluster", e))
            }
            (Power::Off, Of::Cluster(name)) => {
                let call = self.client.stop_db_cluster().db_cluster_identifier(name).send().await;
                call.map(|_| ()).map_err(|e| failure(tried, "rds:StopDBCluster", e))
            }
            (Power::On, Of::Instance(name)) => {
                let call = self.client.start_db_instance().db_instance_identifier(name).send().await;
                call.map(|_| ()).map_err(|e| failure(tried, "rds:StartDBInstance", e))
            }
            (Power::Off, Of::Instance(name)) => {
                let call = self.client.stop_db_instance().db_instance_identifier(name).send().await;
                call.map(|_| ()).map_err(|e| failure(tried, "rds:StopDBInstance", e))
            }
        }
    }

    /// An instance that still starts or stops: the cluster's status goes ahead of them.
    async fn on_the_way(&self, of: Of<'_>) -> Result<Option<String>, Error> {
        let Of::Cluster(name) = of else { return Ok(None) };
        let instances = self.members(name).await?;
        Ok(instances.into_iter().find_map(|instance| {
            let status = instance.db_instance_status.unwrap_or_default();
            let moves = matches!(status.as_str(), "starting" | "stopping" | "creating" | "configuring-log-exports");
            moves.then(|| format!("its instance {} is {status}", instance.db_instance_identifier.unwrap_or_default()))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_left_and_what_moves_is_waited_for() {
        use Ordered::{Moving, NotYet, Taken};
        use Power::{Off, On};
        for (power, status, ordered, step) in [
            (On, "available", NotYet, Step::Reached),
            (On, "stopped", NotYet, Step::Order),
            (On, "stopping", NotYet, Step::Wait),
            (On, "starting", NotYet, Step::Wait),
            (On, "stopped", Taken, Step::Wait),
            (On, "configuring-iam-database-auth", Moving, Step::Wait),
            (On, "stopped", Moving, Step::TurnedBack),
            (On, "stopping", Moving, Step::TurnedBack),
            (On, "available", Moving, Step::Reached),
            (On, "inaccessible-encryption-credentials", NotYet, Step::Lost),
            (Off, "stopped", NotYet, Step::Reached),
            (Off, "available", NotYet, Step::Order),
            (Off, "starting", NotYet, Step::Wait),
            (Off, "backing-up", NotYet, Step::Wait),
            (Off, "available", Taken, Step::Wait),
            (Off, "available", Moving, Step::TurnedBack),
            (Off, "deleting", Taken, Step::Lost),
        ] {
            assert_eq!(judge(power, status, ordered), step, "{power:?} {status} {ordered:?}");
        }
    }
}
