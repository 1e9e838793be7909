//! Stop 10 on a command's path, for orders about power: a wish is handed to the controller, which alone decides, and what
//! becomes of it is waited for.

use std::time::Duration;

use sfdata_common::{command, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};
use tokio::time::{Instant, sleep_until};

use super::{
    controller::{Claim, Handle, Shown, Wish, unmanaged},
    reasons::Reason,
    state::Phase,
    tell,
};
use crate::{
    execute::Job,
    services::{Error, Plan},
};

impl Handle {
    /// Do what was ordered.
    pub async fn execute(&self, action: &command::Power, job: &Job) -> Result<Kind, Error> {
        if *action == command::Power::Status && self.settings().is_none() {
            return Ok(Kind::Power(wire::PowerResult::default()));
        }
        let shown = self.ask(Wish::Look).await?;
        let phase = shown.decision.state.phase.as_str();
        let (wish, plan) = match action {
            command::Power::Status => return Ok(self.result(&shown)),
            command::Power::Wake { .. } => (Wish::Person, plan("phase", phase, Phase::Awake.as_str())),
            command::Power::Sleep { .. } => (Wish::Sleep, plan("phase", phase, Phase::Asleep.as_str())),
            command::Power::StayAwake { until } => {
                let before =
                    shown.decision.state.wishes.awake_until.map_or_else(String::new, |until| until.to_string());
                (Wish::AwakeUntil(*until), plan("awakeUntil", &before, &until.to_string()))
            }
            command::Power::SetMode { manual } => {
                let word = |manual: bool| if manual { "manual" } else { "automatic" };
                let before = word(shown.decision.state.wishes.manual);
                (Wish::Manual(*manual), plan("mode", before, word(*manual)))
            }
        };
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        let manual = shown.decision.state.wishes.manual;
        let shown = self.ask(wish).await?;
        let (to, deadline) = match action {
            command::Power::Wake { deadline } => (Phase::Awake, *deadline),
            command::Power::Sleep { deadline } => (Phase::Asleep, *deadline),
            _ => return Ok(self.result(&shown)),
        };
        if manual {
            let text =
                "the platform's power is left to people, so that nothing was done; hubctl power settings --automatic";
            return Err(Error::failed(FailureCode::Rejected, text));
        }
        let shown = self.reach(to, deadline, job).await?;
        Ok(self.result(&shown))
    }

    /// Wake the platform for a command that needs Dagster, and keep it awake for as long as the claim lives.
    pub async fn awake_for(&self, deadline: Duration, job: &Job) -> Result<Option<Claim>, Error> {
        if self.settings().is_none() {
            return Ok(None);
        }
        let claim = self.needed();
        let shown = self.ask(Wish::Look).await?;
        if !shown.decision.state.wishes.manual {
            self.reach(Phase::Awake, deadline, job).await?;
        }
        Ok(Some(claim))
    }

    fn result(&self, shown: &Shown) -> Kind {
        let settings = self.settings().map(tell::settings);
        Kind::Power(wire::PowerResult { power: Some(shown.told.clone()), settings })
    }

    async fn reach(&self, to: Phase, deadline: Duration, job: &Job) -> Result<std::sync::Arc<Shown>, Error> {
        let ends = Instant::now() + deadline;
        let mut shown = self.subscribe().ok_or_else(unmanaged)?;
        loop {
            let latest = shown.borrow_and_update().clone();
            let mut waits_for = String::new();
            if let Some(latest) = latest {
                if latest.decision.state.phase == to {
                    return Ok(latest);
                }
                waits_for = words(&latest, to);
                job.progress(waits_for.clone(), None);
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => {
                    return Err(Error::cancelled(format!("it was asked for and stays so; {waits_for}")));
                }
                () = sleep_until(ends) => {
                    let text = format!(
                        "not {} within {} s: {waits_for}; see hubctl power explain",
                        to.as_str(), deadline.as_secs(),
                    );
                    return Err(Error::failed(FailureCode::Deadline, text));
                }
                changed = shown.changed() => if changed.is_err() {
                    return Err(Error::failed(FailureCode::Unavailable, "the agent is stopping"));
                }
            }
        }
    }
}

/// How far it is.
fn words(shown: &Shown, to: Phase) -> String {
    let state = &shown.decision.state;
    if let Some(fault) = shown.decision.faults.first() {
        return format!("{}: {}", state.phase.as_str(), fault.detail);
    }
    let reasons: Vec<String> = shown.decision.reasons.iter().map(reason).collect();
    match (to, state.phase) {
        (Phase::Asleep, Phase::Awake) if reasons.is_empty() => "awake, and quiet: it is looked at once more".into(),
        (Phase::Asleep, phase) if !reasons.is_empty() => {
            format!("{}, because of {}", phase.as_str(), reasons.join(", "))
        }
        (_, phase) => phase.as_str().into(),
    }
}

fn reason(reason: &Reason) -> String {
    let name = if reason.name.is_empty() { String::new() } else { format!(" {}", reason.name) };
    let count = if reason.count > 1 { format!(" ({})", reason.count) } else { String::new() };
    format!("{}{name}{count}", reason.kind.as_str())
}

fn plan(property: &str, before: &str, after: &str) -> Plan {
    Plan::default().change("power".to_owned(), property, before.to_owned(), after)
}
