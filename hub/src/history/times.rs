//! How long an agent was in which state, and how that is summed up. Pure.
//!
//! Sums keep every second, whatever order the parts come in. An agent can name causes as it likes; those for which there is no
//! room are one.

use std::collections::BTreeMap;

use sfdata_common::{limits, usage::Label};
use sfdata_proto::v1::{AgentState, AgentSummary, HealthTime, HealthWord, HistorySpan, PowerPhase, PowerTime};

/// In place of causes that are no names, or for which there is no room.
const OTHERS: &str = "others";

/// A phase of power with why it woke.
type Power = (PowerPhase, Option<Label>);

/// How an agent is at one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    word: HealthWord,
    power: Option<Power>,
    tasks: u32,
    arrivals: u32,
    commands: u32,
}

impl State {
    /// Of one that has joined; what it was like before it went away says nothing of now.
    pub fn of(agent: &AgentSummary) -> Option<Self> {
        if matches!(agent.state(), AgentState::Invited | AgentState::Unspecified) {
            return None;
        }
        let health = agent.health.as_ref().filter(|_| agent.state() == AgentState::Connected);
        let services = health.and_then(|health| health.ecs.as_ref()).map_or(&[][..], |ecs| &ecs.services);
        let power = health.and_then(|health| health.power.as_ref());
        Some(Self {
            word: agent.health_word(),
            power: power.filter(|power| power.phase() != PowerPhase::Unspecified).map(|power| {
                let cause = Some(power.cause.as_str()).filter(|cause| !cause.is_empty());
                let cause = cause.filter(|_| power.phase() != PowerPhase::Asleep);
                (power.phase(), cause.and_then(|cause| cause.parse().ok().or_else(others)))
            }),
            tasks: services.iter().fold(0, |sum: u32, service| sum.saturating_add(service.running)),
            arrivals: health.and_then(|health| health.arrivals.as_ref()).map_or(0, |arrivals| arrivals.waiting),
            commands: agent.commands,
        })
    }

    /// Whether the platform slept at the look before and no longer does.
    pub fn has_woken(&self, before: &Self) -> bool {
        let sleeps = |state: &Self| state.power.as_ref().map(|(phase, _)| *phase == PowerPhase::Asleep);
        sleeps(before) == Some(true) && sleeps(self) == Some(false)
    }
}

/// Of one agent in one span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    health: BTreeMap<HealthWord, u32>,
    power: BTreeMap<Power, u32>,
    tasks_most: u32,
    arrivals_most: u32,
    commands_most: u32,
    wakes: u32,
}

impl Times {
    /// Seconds in which the hub looked.
    pub fn watched(&self) -> u32 {
        self.health.values().sum()
    }

    /// It was in this state for so many seconds more, of a span of `length`: what a clock that was set back would have counted
    /// twice has no room in it.
    pub fn add(&mut self, state: &State, seconds: u32, length: u32) {
        let seconds = seconds.min(length.saturating_sub(self.watched()));
        if seconds == 0 {
            return;
        }
        *self.health.entry(state.word).or_default() += seconds;
        if let Some(power) = &state.power {
            *self.power.entry(power.clone()).or_default() += seconds;
            self.bound();
        }
        self.tasks_most = self.tasks_most.max(state.tasks);
        self.arrivals_most = self.arrivals_most.max(state.arrivals);
        self.commands_most = self.commands_most.max(state.commands);
    }

    /// It has woken once more.
    pub fn wake(&mut self) {
        self.wakes = self.wakes.saturating_add(1);
    }

    /// Several spans as one.
    pub fn sum<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for part in parts {
            for (word, seconds) in &part.health {
                *sum.health.entry(*word).or_default() += seconds;
            }
            for (power, seconds) in &part.power {
                *sum.power.entry(power.clone()).or_default() += seconds;
            }
            sum.tasks_most = sum.tasks_most.max(part.tasks_most);
            sum.arrivals_most = sum.arrivals_most.max(part.arrivals_most);
            sum.commands_most = sum.commands_most.max(part.commands_most);
            sum.wakes = sum.wakes.saturating_add(part.wakes);
        }
        sum.bound();
        sum
    }

    /// Keep the causes with most of the time apart, and make one of the others.
    fn bound(&mut self) {
        let others = others();
        let is_named = |(_, cause): &Power| cause.is_some() && *cause != others;
        if self.power.keys().filter(|power| is_named(power)).count() <= limits::HISTORY_CAUSES {
            return;
        }
        let all = std::mem::take(&mut self.power).into_iter();
        let (mut named, rest): (Vec<_>, Vec<_>) = all.partition(|(power, _)| is_named(power));
        self.power.extend(rest);
        named.sort_by(|(a, long), (b, longer)| longer.cmp(long).then_with(|| a.cmp(b)));
        for (place, ((phase, cause), seconds)) in named.into_iter().enumerate() {
            let cause = if place < limits::HISTORY_CAUSES { cause } else { others.clone() };
            *self.power.entry((phase, cause)).or_default() += seconds;
        }
    }

    /// As it is told and kept.
    pub fn span(&self, begin_unix_ms: i64) -> HistorySpan {
        let health = self.health.iter().map(|(word, seconds)| HealthTime { word: (*word).into(), seconds: *seconds });
        let power = self.power.iter().map(|((phase, cause), seconds)| PowerTime {
            phase: (*phase).into(),
            cause: cause.as_ref().map_or_else(String::new, |cause| cause.as_str().to_owned()),
            seconds: *seconds,
        });
        HistorySpan {
            begin_unix_ms,
            health: health.collect(),
            power: power.collect(),
            tasks_most: self.tasks_most,
            arrivals_most: self.arrivals_most,
            commands_most: self.commands_most,
            wakes: self.wakes,
        }
    }
}

impl From<HistorySpan> for Times {
    fn from(span: HistorySpan) -> Self {
        let health = span.health.iter().map(|time| (time.word(), time.seconds));
        let power = span.power.iter().map(|time| ((time.phase(), time.cause.parse().ok()), time.seconds));
        Self {
            health: health.collect(),
            power: power.collect(),
            tasks_most: span.tasks_most,
            arrivals_most: span.arrivals_most,
            commands_most: span.commands_most,
            wakes: span.wakes,
        }
    }
}

fn others() -> Option<Label> {
    OTHERS.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sfdata_proto::v1::{self as wire, PowerState};

    use super::*;

    fn agent(state: AgentState, word: HealthWord, phase: PowerPhase, cause: &str) -> AgentSummary {
        let service = |running| wire::EcsServiceState { running, ..Default::default() };
        AgentSummary {
            state: state.into(),
            health_word: word.into(),
            commands: 2,
            health: Some(wire::Health {
                ecs: Some(wire::EcsHealth { services: vec![service(1), service(u32::MAX)], ..Default::default() }),
                arrivals: Some(wire::ArrivalsHealth { waiting: 7, ..Default::default() }),
                power: Some(PowerState { phase: phase.into(), cause: cause.into(), ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn state(word: HealthWord, phase: PowerPhase, cause: &str) -> State {
        State::of(&agent(AgentState::Connected, word, phase, cause)).unwrap()
    }

    fn told(times: &Times) -> Vec<String> {
        let span = times.span(0);
        let health = span.health.iter().map(|time| format!("{:?} {}", time.word(), time.seconds));
        health
            .chain(span.power.iter().map(|time| format!("{:?} {} {}", time.phase(), time.cause, time.seconds)))
            .collect()
    }

    #[test]
    fn a_state_is_what_was_told_of_a_connected_agent_alone() {
        let mut times = Times::default();
        times.add(&state(HealthWord::Healthy, PowerPhase::Awake, "arrivals"), 40, 300);
        times.add(&state(HealthWord::Asleep, PowerPhase::Asleep, "arrivals"), 50, 300);
        let away = State::of(&agent(AgentState::Away, HealthWord::Away, PowerPhase::Awake, "arrivals")).unwrap();
        times.add(&away, 60, 300);
        assert_eq!(told(&times), ["Healthy 40", "Asleep 50", "Away 60", "Asleep  50", "Awake arrivals 40"]);
        let span = times.span(5);
        assert_eq!((span.tasks_most, span.arrivals_most, span.commands_most), (u32::MAX, 7, 2));
        assert_eq!((Times::from(span.clone()), span.begin_unix_ms), (times, 5));
        assert_eq!(State::of(&agent(AgentState::Invited, HealthWord::Away, PowerPhase::Awake, "")), None);
        for odd in ["Kim Doe", "a/b.csv", "\u{1b}[2J", &"a".repeat(101)] {
            let mut times = Times::default();
            times.add(&state(HealthWord::Healthy, PowerPhase::Awake, odd), 1, 300);
            assert_eq!(told(&times)[1], "Awake others 1", "{odd}");
        }
    }

    #[test]
    fn a_span_takes_no_more_than_it_is_long() {
        let mut times = Times::default();
        let asleep = state(HealthWord::Asleep, PowerPhase::Asleep, "");
        (0..100).for_each(|_| times.add(&asleep, 7, 300));
        assert_eq!((times.watched(), told(&times)), (300, vec!["Asleep 300".into(), "Asleep  300".into()]));
        times.add(&state(HealthWord::Failing, PowerPhase::Awake, "runs"), 5, 300);
        assert_eq!(times.watched(), 300);
    }

    #[test]
    fn waking_is_leaving_sleep() {
        let of = |phase| state(HealthWord::Healthy, phase, "");
        use PowerPhase::{Asleep, Awake, Draining, Waking};
        for (before, after, woken) in
            [(Asleep, Waking, true), (Asleep, Awake, true), (Draining, Awake, false), (Awake, Asleep, false)]
        {
            assert_eq!(of(after).has_woken(&of(before)), woken, "{before:?} {after:?}");
        }
        let away = State::of(&agent(AgentState::Away, HealthWord::Away, Awake, "")).unwrap();
        assert!(!of(Awake).has_woken(&away) && !away.has_woken(&of(Asleep)), "of one that is away nobody knows");
    }

    #[test]
    fn however_many_causes_are_a_few_and_no_second_is_lost() {
        let mut times = Times::default();
        for number in 0..50_000_u32 {
            times.add(&state(HealthWord::Healthy, PowerPhase::Awake, &format!("cause_{number}")), 1, u32::MAX);
        }
        let span = times.span(0);
        assert!(span.power.len() <= limits::HISTORY_CAUSES + 1, "{}", span.power.len());
        assert_eq!(span.power.iter().map(|time| time.seconds).sum::<u32>(), 50_000);
    }

    prop_compose! {
        fn some()(parts in prop::collection::vec((1_i32..=6, 1_i32..=4, 0_u32..40, 0_u32..100), 0..60)) -> Times {
            let mut times = Times::default();
            for (word, phase, cause, seconds) in parts {
                let (word, phase) = (HealthWord::try_from(word).unwrap(), PowerPhase::try_from(phase).unwrap());
                times.add(&state(word, phase, &format!("cause-{cause}")), seconds, u32::MAX);
            }
            times
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn sums_keep_every_second_in_any_order(parts in prop::collection::vec(some(), 0..24), turn in 0_usize..24) {
            let sum = Times::sum(&parts);
            let by = |times: &Times| times.power.values().sum::<u32>();
            prop_assert_eq!(sum.watched(), parts.iter().map(Times::watched).sum::<u32>());
            prop_assert_eq!(by(&sum), parts.iter().map(by).sum::<u32>());
            prop_assert!(sum.power.len() <= limits::HISTORY_CAUSES + 8);
            let mut turned = parts.clone();
            turned.rotate_left(turn.min(parts.len()));
            prop_assert_eq!(&Times::sum(&turned), &sum);
            turned.reverse();
            prop_assert_eq!(&Times::sum(&turned), &sum);
            prop_assert_eq!(&Times::sum([&sum]), &sum, "a sum of one changes nothing");
            prop_assert_eq!(&Times::from(sum.span(0)), &sum);
        }
    }
}
