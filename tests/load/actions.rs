//! What an action adds to the calls that it makes of AWS: the same calls are made by a bare SDK program in turn, in the
//! same run, against the same stand-in. And what the platform costs in calls while nothing happens.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use aws_sdk_ecs::types::DesiredStatus;
use futures::future::try_join_all;
use sfdata_common::{
    Timestamp,
    command::{Action, Ecs, LogSource, Logs, LogsUntil, S3},
    outcome::Outcome,
};
use sfdata_tests::{
    fleet::Fleet,
    standin::{Account, sdk},
};

use crate::numbers::{Latencies, ms, say, show};

const ROUNDS: usize = 200;
const DEADLINE: Duration = Duration::from_secs(60);
/// From the last movement until the agent looks as rarely as it ever does.
const SETTLE: Duration = Duration::from_secs(150);
/// Over which calls at rest are counted.
const REST: Duration = Duration::from_secs(300);

/// Each action beside its own calls, in turns.
pub(crate) async fn overhead() -> Result<()> {
    let mut fleet = Fleet::start(1).await;
    fleet.with_policy(0, "permit(principal, action, resource);").await;
    let (la, account) = (fleet.agents[0].id.clone(), fleet.agents[0].account.clone());
    let bare = Bare::new(&fleet.aws().url(), &account.credentials).await;
    let read = |service: &str| Logs::Read {
        source: LogSource::Service(service.into()),
        since: Timestamp::now() - Duration::from_secs(3600),
        until: LogsUntil::Now,
        grep: String::new(),
        limit: 100,
        deadline: DEADLINE,
    };
    for (name, action, calls) in [
        (
            "ecs_scale",
            Action::Ecs(Ecs::Scale { service: "code-server".into(), desired: 1, deadline: DEADLINE }),
            Calls::Scale,
        ),
        ("s3_usage", Action::S3(S3::Usage { by_prefix: false }), Calls::Usage),
        ("logs_read", Action::Logs(read("daemon")), Calls::Logs),
    ] {
        let (mut with, mut without) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let outcome = fleet.alice.run(action.clone(), &la).await?;
            with.push(began.elapsed());
            if !matches!(outcome, Outcome::Succeeded(_)) {
                bail!("{name}: {outcome:?}");
            }
            let began = Instant::now();
            bare.make(calls, &account).await?;
            without.push(began.elapsed());
        }
        let (with, without) = (Latencies::new(with), Latencies::new(without));
        show(&format!("action_{name}_ms"), ms(with.p50()));
        show(&format!("action_{name}_bare_ms"), ms(without.p50()));
        show(&format!("action_{name}_adds_ms"), ms(with.p50().saturating_sub(without.p50())));
    }
    fleet.stop().await;
    Ok(())
}

/// Calls of the whole platform while nothing happens and nobody asks.
pub(crate) async fn calls_at_rest() -> Result<()> {
    let fleet = Fleet::start(1).await;
    let account = &fleet.agents[0].account.id;
    say(format_args!("waiting {SETTLE:?} for rest, then counting calls for {REST:?} ..."));
    tokio::time::sleep(SETTLE).await;
    let before = fleet.aws().count(account).await?;
    tokio::time::sleep(REST).await;
    let calls = fleet.aws().count(account).await? - before;
    show("agent_rest_calls_per_minute", format_args!("{:.1}", calls as f64 * 60.0 / REST.as_secs_f64()));
    fleet.stop().await;
    Ok(())
}

/// What the bare program calls: the same as the action, in the same order.
#[derive(Clone, Copy)]
enum Calls {
    /// A service that already has so many tasks: looked at, seen to be there, its running task read.
    Scale,
    /// Every bucket listed, side by side.
    Usage,
    /// The service and its definition read, then its log group.
    Logs,
}

/// The SDK, and nothing else.
struct Bare {
    ecs: aws_sdk_ecs::Client,
    s3: aws_sdk_s3::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
}

impl Bare {
    async fn new(url: &str, credentials: &std::path::Path) -> Self {
        let config = sdk(url, credentials).await;
        Self {
            ecs: aws_sdk_ecs::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(
                aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build(),
            ),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
        }
    }

    async fn make(&self, calls: Calls, account: &Account) -> Result<()> {
        let cluster = &account.cluster;
        let describe = |name: &str| self.ecs.describe_services().cluster(cluster).services(name).send();
        match calls {
            Calls::Scale => {
                describe("code-server").await?;
                describe("code-server").await?;
                let list = self.ecs.list_tasks().cluster(cluster).service_name("code-server");
                let tasks = list.desired_status(DesiredStatus::Running).send().await?.task_arns;
                self.ecs.describe_tasks().cluster(cluster).set_tasks(tasks).send().await?;
            }
            Calls::Usage => {
                let list = |bucket: &str| self.s3.list_objects_v2().bucket(bucket).send();
                try_join_all(account.buckets.iter().map(|(_, bucket)| list(bucket))).await?;
            }
            Calls::Logs => {
                let found = describe("daemon").await?;
                let definition = found.services().first().and_then(|service| service.task_definition());
                self.ecs.describe_task_definition().set_task_definition(definition.map(Into::into)).send().await?;
                let hour_ago = (Timestamp::now() - Duration::from_secs(3600)).as_millisecond();
                let read = self.logs.filter_log_events().log_group_name(format!("/{cluster}")).start_time(hour_ago);
                read.log_stream_name_prefix("daemon/daemon/").send().await?;
            }
        }
        Ok(())
    }
}
