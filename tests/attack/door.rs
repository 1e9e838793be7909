//! What the agent's door costs: a signed restart, judged over and over on one core, beside its two bare signature checks in
//! the same run. The parts are measured by themselves, so they add up only nearly.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use prost::Message as _;
use sfdata_agent::verify::{Judgement, verify};
use sfdata_common::{
    command::Command,
    dispatch::PAYLOAD_TYPE,
    envelope,
    keys::sha256,
    policy::{AgentFacts, Question, Resource},
};
use sfdata_proto::v1 as wire;

use super::fuzz::signed::Scene;
use crate::numbers::show;

/// Commands a second on one core, of an optimized build.
const WANTED: f64 = 20_000.0;
/// The door beside its two signatures' checks. The signatures are in C and always fast; the rest is as the build is.
const MOST: f64 = if cfg!(debug_assertions) { 40.0 } else { 3.0 };
/// Rounds; the fastest counts, since whatever else runs only makes one slower.
const ROUNDS: usize = 5;

/// Judge so many commands, and print what that took.
pub(super) fn measure(commands: usize) -> Result<()> {
    let scene = Scene::new()?;
    let command = scene.restart()?;
    let delivery = scene.delivery(command.encode(), command.id);
    let facts = scene.facts();
    let (Some(dispatched), Some(ordered)) = (&delivery.dispatch, &delivery.command) else {
        anyhow::bail!("a delivery without its parts");
    };
    let (hub, alice) = (&facts.bundle.dispatch_keys[..], &facts.bundle.operators);
    let (Some(alice), roles) = (alice.last(), &facts.bundle.operators[0].roles) else { anyhow::bail!("no operator") };

    let mut let_in = 0_usize;
    let door = fastest(commands, || {
        let_in += usize::from(matches!(verify(&delivery, &facts), Judgement::Verified(_)));
    });
    ensure!(let_in == ROUNDS * (commands / ROUNDS).max(1), "{let_in} commands of {commands} were let in");
    let mut held = 0;
    let signatures = fastest(commands, || {
        held += envelope::count_signers(dispatched, PAYLOAD_TYPE, hub);
        held += usize::from(envelope::is_signed_by(ordered, Command::PAYLOAD_TYPE, &alice.key));
    });
    ensure!(held > 0, "the signatures do not hold");
    let parsing = fastest(commands, || {
        let read = wire::Dispatch::decode(&dispatched.payload[..]).map(|dispatch| dispatch.encode_to_vec());
        std::hint::black_box((read, sha256(&ordered.payload), Command::parse(&ordered.payload)).2.is_ok());
    });
    let policy = fastest(commands, || {
        std::hint::black_box(facts.rules.judge(&Question {
            operator: &alice.name,
            roles,
            action: command.action.name(),
            class: command.class().as_str(),
            resource: Resource::Agent(facts.agent, &AgentFacts::default()),
            reason: &command.reason,
            now: facts.now,
            signers: 1,
            freezes: &[],
        }));
    });
    let rate = 1.0 / door.as_secs_f64();
    let ratio = door.as_secs_f64() / signatures.as_secs_f64();
    let us = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e6);
    show("door_commands_per_s", format!("{rate:.0}"));
    show("door_us", us(door));
    show("door_signatures_us", us(signatures));
    show("door_parsing_us", us(parsing));
    show("door_policy_us", us(policy));
    show("door_ratio", format!("{ratio:.2}"));
    show("door_ratio_most", MOST);
    if !cfg!(debug_assertions) {
        show("door_wanted_per_s", WANTED);
    }
    ensure!(ratio <= MOST, "the door takes {ratio:.1} times as long as its two signatures; at most {MOST}");
    Ok(())
}

/// How long one takes, in the fastest of some rounds.
fn fastest(times: usize, mut act: impl FnMut()) -> Duration {
    let each = (times / ROUNDS).max(1);
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        (0..each).for_each(|_| act());
        began.elapsed() / each as u32
    });
    rounds.min().unwrap_or_default()
}
