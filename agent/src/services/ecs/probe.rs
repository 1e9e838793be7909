//! Whether the tasks of a service answer, as those before them did: a connection to the main container's port, and its
//! own health check where it has one.
//!
//! Nothing is configured: what answered before a change has to answer after it, and what did not (the agent may not be
//! let in, or nothing ran) is not asked. So a change is never failed by a network that never let the agent through.

use std::{net::IpAddr, time::Duration};

use aws_sdk_ecs::types::{DesiredStatus, HealthStatus, Task};
use serde::{Deserialize, Serialize};
use sfdata_common::outcome::FailureCode;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{Ecs, definition::Definition, tasks::task_id};
use crate::{execute::Job, services::Error};

/// A connection within one network takes a millisecond.
const CONNECT: Duration = Duration::from_secs(2);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// A new task may be silent for so long: a code server imports all its code before it opens its port.
const STARTS: Duration = Duration::from_secs(180);

/// Tasks that are tried before a change: each that the agent is kept from costs a whole time-out.
const TRIED: usize = 3;

/// How the tasks before a change answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answers {
    /// On this port.
    port: Option<u16>,
    /// By their container's own health check.
    healthy: bool,
}

impl Ecs {
    /// How those tasks of a service answer that run this definition. What cannot be told counts as no answer.
    pub(super) async fn answers(&self, name: &str, definition: &str, job: &Job) -> Answers {
        let (definition, tasks) =
            match tokio::try_join!(self.definition(definition), self.tasks(Some(name), DesiredStatus::Running)) {
                Ok((definition, tasks)) => (definition, tasks),
                Err(_) => return Answers::default(),
            };
        let port = definition.port(name);
        let running: Vec<_> = tasks.iter().filter(|task| task.last_status() == Some("RUNNING")).collect();
        let mut answers = Answers::default();
        for task in running.iter().take(TRIED) {
            answers.healthy |= health(task, definition.main_name(name)) == Some(&HealthStatus::Healthy);
            if answers.port.is_none()
                && let Some((address, port)) = address(task).zip(port)
                && connects(address, port).await
            {
                answers.port = Some(port);
            }
        }
        if let Some(port) = port.filter(|_| answers.port.is_none() && !running.is_empty()) {
            job.progress(format!("{name} does not answer the agent on port {port}, so that this is not judged"), None);
        }
        answers
    }

    /// Wait until all tasks that `of` takes answer as those before them did: for as long as a start may take, not counted
    /// the time in which AWS can't be asked, and in no case after `by`.
    pub(super) async fn answer_again(
        &self,
        name: &str,
        definition: &str,
        before: Answers,
        of: impl Fn(&Task) -> bool,
        by: Instant,
        job: &Job,
    ) -> Result<(), Error> {
        if before == Answers::default() {
            return Ok(());
        }
        let start = Instant::now();
        let mut ends = by.min(start + STARTS);
        job.progress(format!("all tasks run; whether {name} answers as it did is looked at"), Some(99));
        loop {
            let tasks = self.tasks(Some(name), DesiredStatus::Running);
            let silent = match tokio::try_join!(self.definition(definition), tasks) {
                Ok((definition, tasks)) => {
                    let asked = Asked::of(&definition, name, before);
                    self.silent(tasks.iter().filter(|task| of(task)), &asked).await?
                }
                // Who cannot be asked for is not silent.
                Err(error) if error.is_passing() && Instant::now() < by => {
                    ends = by.min(Instant::now() + STARTS);
                    Some(error.to_string())
                }
                Err(error) => return Err(error),
            };
            let Some(silent) = silent else { return Ok(()) };
            if Instant::now() >= ends {
                let text = format!(
                    "{silent} after {} s, and before the change {name} answered; look at its logs, or give it more time \
                     with a longer --timeout",
                    start.elapsed().as_secs()
                );
                return Err(Error::failed(FailureCode::Rejected, text));
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => {
                    return Err(Error::cancelled(format!("{name} was changed; whether it answers was not waited for")));
                }
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// The first task that does not answer, in words; an error where its health check has failed.
    async fn silent(&self, tasks: impl Iterator<Item = &Task>, asked: &Asked) -> Result<Option<String>, Error> {
        for task in tasks {
            if let Some(port) = asked.port {
                let Some(address) = address(task) else {
                    return Ok(Some(format!("task {} has no address", task_id(task))));
                };
                if !connects(address, port).await {
                    return Ok(Some(format!("task {} does not answer at {address}:{port}", task_id(task))));
                }
            }
            if asked.healthy
                && let Some(silent) = ailing(task, asked.container.as_deref())?
            {
                return Ok(Some(silent));
            }
        }
        Ok(None)
    }
}

/// Why a task is not healthy yet, in words; an error where its health check has failed.
fn ailing(task: &Task, container: Option<&str>) -> Result<Option<String>, Error> {
    match health(task, container) {
        Some(HealthStatus::Healthy) => Ok(None),
        Some(HealthStatus::Unhealthy) => {
            let text = format!("the health check of task {} fails; look at its logs", task_id(task));
            Err(Error::failed(FailureCode::Rejected, text))
        }
        _ => Ok(Some(format!("task {} is not healthy yet", task_id(task)))),
    }
}

/// What is asked of the tasks after a change: what answered before, as far as the new definition has it.
struct Asked {
    port: Option<u16>,
    healthy: bool,
    /// The main container.
    container: Option<String>,
}

impl Asked {
    fn of(definition: &Definition, name: &str, before: Answers) -> Self {
        Self {
            port: before.port.and_then(|_| definition.port(name)),
            healthy: before.healthy && definition.has_health_check(name),
            container: definition.main_name(name).map(str::to_owned),
        }
    }
}

async fn connects(address: IpAddr, port: u16) -> bool {
    matches!(timeout(CONNECT, TcpStream::connect((address, port))).await, Ok(Ok(_)))
}

/// Of its network interface.
pub(super) fn address(task: &Task) -> Option<IpAddr> {
    let interface = task.attachments().iter().find(|one| one.r#type() == Some("ElasticNetworkInterface"))?;
    let detail = interface.details().iter().find(|detail| detail.name() == Some("privateIPv4Address"))?;
    detail.value()?.parse().ok()
}

/// Of its main container, where that can be told.
fn health<'a>(task: &'a Task, container: Option<&str>) -> Option<&'a HealthStatus> {
    task.containers().iter().find(|one| container.is_some() && one.name() == container)?.health_status()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{Attachment, Container, KeyValuePair};

    use super::*;

    #[test]
    fn address_and_health_are_read_from_where_ecs_tells_them() {
        let detail = KeyValuePair::builder().name("privateIPv4Address").value("10.0.0.7").build();
        let task = Task::builder()
            .attachments(Attachment::builder().r#type("ElasticNetworkInterface").details(detail).build())
            .containers(Container::builder().name("side").health_status(HealthStatus::Unhealthy).build())
            .containers(Container::builder().name("code").health_status(HealthStatus::Healthy).build())
            .build();
        assert_eq!(address(&task), Some([10, 0, 0, 7].into()));
        assert_eq!(health(&task, Some("code")), Some(&HealthStatus::Healthy));
        assert_eq!(address(&Task::builder().build()), None);
        assert_eq!(ailing(&task, Some("code")), Ok(None));
        assert!(matches!(ailing(&task, Some("side")), Err(Error::Failed { code: FailureCode::Rejected, .. })));
        assert!(matches!(ailing(&Task::builder().build(), Some("code")), Ok(Some(_))), "it is not known yet");
    }
}
