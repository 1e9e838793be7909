//! Snapshots of the platform's database: list, take, delete. Those of other databases are never touched.
//!
//! A snapshot carries the id of the command that took it as a tag, so that an action whose answer was lost, or that is
//! taken up again, knows its own from anybody else's of the same name. What is deleted is known by its ARN and time.

mod calls;

use std::{cmp::Reverse, time::Duration};

use bytes::Bytes;
use sfdata_common::{limits, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};

pub(super) use self::calls::Snapshot;
use super::{Aurora, is_lost, of::Of, watch::Watch};
use crate::{
    execute::Job,
    services::{Error, Plan, listed},
};

const MANUAL: &str = "manual";
/// The note that everything was looked at, and the call is next.
pub(super) const CALLING: Bytes = Bytes::from_static(b"calling");

fn result(of: Of<'_>, snapshots: Vec<wire::AuroraSnapshotState>) -> Kind {
    Kind::AuroraSnapshots(wire::AuroraSnapshotsResult { cluster: of.name().into(), snapshots })
}

impl Aurora {
    /// Manual and automated ones, newest first.
    pub(super) async fn snapshots(&self, of: Of<'_>, job: &Job) -> Result<Kind, Error> {
        tokio::select! {
            biased;
            () = job.cancelled().cancelled() => Err(Error::cancelled("nothing was read yet")),
            all = self.all_snapshots(of) => Ok(result(of, all?.into_iter().map(|one| one.state).collect())),
        }
    }

    pub(super) async fn snapshot(
        &self,
        of: Of<'_>,
        asked: Option<&str>,
        deadline: Duration,
        job: &Job,
    ) -> Result<Kind, Error> {
        let name = &*asked.map_or_else(|| format!("sfdata-{}", job.command()), str::to_owned);
        let mut watch = Watch::new(job, deadline);
        if job.checkpoint().is_none() {
            self.may_take(of, name, &mut watch).await?;
            // Without a name it is called after this very command, which no other one can agree to.
            let resource = of.snapshot_resource(asked.unwrap_or("sfdata-COMMAND"));
            let plan = Plan::default().change(resource, of.identifier(), "", of.name());
            if let Some(answer) = job.agree_and_keep(plan, CALLING).await? {
                return Ok(answer);
            }
        }
        let (mut ordered, mut shown, mut refusals) = (false, false, 0);
        loop {
            match watch.read(|| self.find_snapshot(of, name)).await? {
                Some(seen) if !seen.is_by(job.command()) => {
                    let text = format!("snapshot {name} is somebody else's, of {}; choose another name", seen.of);
                    return Err(watch.lost(FailureCode::Conflict, text));
                }
                Some(seen) => match &*seen.state.status {
                    "available" => return Ok(result(of, vec![seen.state])),
                    status if is_lost(status) => {
                        let text = format!("snapshot {name} is {status}; delete it and take another one");
                        return Err(watch.lost(FailureCode::Rejected, text));
                    }
                    status => {
                        shown = true;
                        watch.wait(format!("snapshot {name} is {status}"), seen.percent).await?;
                    }
                },
                None if shown => {
                    let text = format!("somebody else deleted snapshot {name} while it was made");
                    return Err(watch.lost(FailureCode::Conflict, text));
                }
                None if ordered => watch.wait(format!("RDS does not show snapshot {name} yet"), None).await?,
                None => match self.create_snapshot(of, name, job.command()).await {
                    Ok(()) => {
                        ordered = true;
                        watch.did(format!("snapshot {name} was ordered"));
                    }
                    Err(Error::Failed { code: FailureCode::Conflict, .. }) if refusals < limits::AWS_TRIES => {
                        refusals += 1;
                        watch.wait(format!("RDS takes no snapshot of {} yet", of.name()), None).await?;
                    }
                    Err(error) => watch.unsure(format!("snapshot {name} may have been ordered"), error).await?,
                },
            }
        }
    }

    /// The database can be snapshotted and the name is free.
    async fn may_take(&self, of: Of<'_>, name: &str, watch: &mut Watch<'_>) -> Result<(), Error> {
        let rejected = |text: String| Err(Error::failed(FailureCode::Rejected, text));
        if let Some(other) = watch.read(|| self.find_snapshot(of, name)).await? {
            return rejected(format!("there is a snapshot {name} already, of {}; choose another name", other.of));
        }
        match (of, &*watch.read(|| self.see(of)).await?.status) {
            (Of::Cluster(cluster), status @ ("stopped" | "stopping")) => {
                rejected(format!("{cluster} is {status}, and RDS takes snapshots only of what runs; start it first"))
            }
            (_, status) if is_lost(status) => {
                rejected(format!("{} is {status}: RDS takes no snapshot of it", of.name()))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn delete_snapshot(
        &self,
        of: Of<'_>,
        name: &str,
        deadline: Duration,
        job: &Job,
    ) -> Result<Kind, Error> {
        let mut watch = Watch::new(job, deadline);
        let kept = job.checkpoint();
        let mut gone = wire::AuroraSnapshotState { name: name.into(), ..Default::default() };
        let which = match &kept {
            Some(kept) => kept.clone(),
            None => {
                let seen = watch.read(|| self.own_snapshot(of, name)).await?;
                if seen.state.snapshot_type != MANUAL {
                    let kind = &seen.state.snapshot_type;
                    let text =
                        format!("{name} is {kind}: what RDS or AWS Backup took, they delete; name a manual snapshot");
                    return Err(Error::failed(FailureCode::Rejected, text));
                }
                let plan = Plan::default().change(of.snapshot_resource(name), "status", &seen.state.status, "");
                let which = identity(&seen);
                if let Some(answer) = job.agree_and_keep(plan, which.clone()).await? {
                    return Ok(answer);
                }
                gone = seen.state;
                which
            }
        };
        let mut ordered = false;
        while let Some(seen) = watch.read(|| self.find_snapshot(of, name)).await? {
            // Another one of that name is not the one that was to be deleted.
            if identity(&seen) != which {
                break;
            }
            if !ordered {
                match self.remove_snapshot(of, name).await {
                    Ok(()) => {
                        ordered = true;
                        watch.did(format!("RDS was told to delete snapshot {name}"));
                    }
                    Err(error) => watch.unsure(format!("the deletion of {name} may have been ordered"), error).await?,
                }
                continue;
            }
            watch.wait(format!("snapshot {name} is {}", seen.state.status), None).await?;
        }
        gone.status = "deleted".into();
        Ok(result(of, vec![gone]))
    }

    /// A snapshot of the platform's own database, or what there is instead.
    pub(super) async fn own_snapshot(&self, of: Of<'_>, name: &str) -> Result<Snapshot, Error> {
        match self.find_snapshot(of, name).await? {
            Some(seen) if seen.of == of.name() => Ok(seen),
            Some(seen) => {
                let text = format!("{name} is a snapshot of {}, not of {}: it is left alone", seen.of, of.name());
                Err(Error::failed(FailureCode::Rejected, text))
            }
            None => {
                let all = self.all_snapshots(of).await;
                let there = listed(all.map(|all| all.into_iter().map(|one| one.state.name).collect()));
                let text = format!("{} has no snapshot {name}; {there}", of.name());
                Err(Error::failed(FailureCode::NotFound, text))
            }
        }
    }

    pub(super) async fn all_snapshots(&self, of: Of<'_>) -> Result<Vec<Snapshot>, Error> {
        let mut all = self.read_snapshots(of).await?;
        newest_first(&mut all);
        all.truncate(limits::DATABASE_SNAPSHOTS);
        Ok(all)
    }
}

/// What tells a snapshot from a later one of the same name.
fn identity(snapshot: &Snapshot) -> Bytes {
    format!("{} {}", snapshot.arn, snapshot.state.created_unix_ms).into()
}

/// Those in the making have no time yet and are the newest.
fn newest_first(snapshots: &mut [Snapshot]) {
    snapshots.sort_by_key(|one| match one.state.created_unix_ms {
        0 => Reverse(i64::MAX),
        at => Reverse(at),
    });
}

#[cfg(test)]
mod tests {
    use aws_sdk_rds::{primitives::DateTime, types::DbClusterSnapshot};

    use super::*;

    #[test]
    fn what_is_in_the_making_is_the_newest() {
        let one = |name: &str, at: Option<i64>| {
            let made = DbClusterSnapshot::builder().db_cluster_snapshot_identifier(name);
            Snapshot::from(made.set_snapshot_create_time(at.map(DateTime::from_secs)).build())
        };
        let mut all = [one("old", Some(1)), one("making", None), one("new", Some(2))];
        newest_first(&mut all);
        assert_eq!(all.map(|one| one.state.name), ["making", "new", "old"]);
    }
}
