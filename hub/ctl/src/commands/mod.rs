//! The nouns, one file each: `hubctl NOUN VERB`. One verb is one struct with `run`.

mod key;
mod login;
mod operators;
mod trust;
mod whoami;

mod agents;
mod alerts;
mod arrivals;
mod audit;
mod aurora;
#[expect(clippy::module_inception, reason = "the noun is called so")]
mod commands;
mod dagster;
mod dashboard;
mod ecs;
mod images;
mod logs;
mod platform;
mod power;
mod s3;
mod top;
mod usage;

mod about;

use clap::Subcommand;

use crate::{cli::Context, exit::Exit};

/// What can be asked for, in the order in which a newcomer needs it.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    Login(login::Login),
    Whoami(whoami::Whoami),
    #[command(subcommand)]
    Key(key::Key),
    #[command(subcommand)]
    Trust(trust::Trust),
    #[command(subcommand)]
    Operators(operators::Operators),
    #[command(subcommand)]
    Agents(agents::Agents),
    Top(top::Top),
    Dashboard(dashboard::Dashboard),
    #[command(subcommand)]
    Power(power::Power),
    #[command(subcommand)]
    Ecs(ecs::Ecs),
    #[command(subcommand)]
    Dagster(dagster::Dagster),
    #[command(subcommand)]
    Aurora(aurora::Aurora),
    #[command(subcommand)]
    S3(s3::S3),
    Logs(logs::Logs),
    #[command(subcommand)]
    Arrivals(arrivals::Arrivals),
    #[command(subcommand)]
    Images(images::Images),
    #[command(subcommand)]
    Commands(commands::Commands),
    #[command(subcommand)]
    Platform(platform::Platform),
    Usage(usage::Usage),
    #[command(subcommand)]
    Alerts(alerts::Alerts),
    #[command(subcommand)]
    Audit(audit::Audit),
    Version(about::Version),
    Completions(about::Completions),
}

impl Noun {
    /// Do it.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Login(login) => login.run(context).await,
            Self::Key(key) => key.run(context).await,
            Self::Whoami(whoami) => whoami.run(context).await,
            Self::Trust(trust) => trust.run(context).await,
            Self::Operators(operators) => operators.run(context).await,
            Self::Agents(agents) => agents.run(context).await,
            Self::Top(top) => top.run(context).await,
            Self::Dashboard(dashboard) => dashboard.run(context).await,
            Self::Power(power) => power.run(context).await,
            Self::Ecs(ecs) => ecs.run(context).await,
            Self::Dagster(dagster) => dagster.run(context).await,
            Self::Aurora(aurora) => aurora.run(context).await,
            Self::S3(s3) => s3.run(context).await,
            Self::Logs(logs) => logs.run(context).await,
            Self::Arrivals(arrivals) => arrivals.run(context).await,
            Self::Images(images) => images.run(context).await,
            Self::Commands(commands) => commands.run(context).await,
            Self::Platform(platform) => platform.run(context).await,
            Self::Usage(usage) => usage.run(context).await,
            Self::Alerts(alerts) => alerts.run(context).await,
            Self::Audit(audit) => audit.run(context).await,
            Self::Version(version) => version.run(context),
            Self::Completions(completions) => completions.run(),
        }
    }
}
