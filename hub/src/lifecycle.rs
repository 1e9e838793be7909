//! The life of one command at one agent, as a pure function. An illegal step is refused, logged and counted
//! by whoever asked for it, and never a panic.
//!
//! `Sent` means that the command may have reached the agent. The hub itself may then end it only on the agent's
//! word that it did not begin (its last sequence number), because a command that is told to be expired
//! must not have run.

use std::fmt;

use sfdata_common::outcome::Outcome;
use sfdata_proto::v1::CommandState;

/// Where a command stands at one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Durable, and not handed to the agent.
    Waiting,
    /// Handed to the agent's stream.
    Sent,
    /// In the agent's journal.
    Received,
    /// Begun.
    Running,
    /// Done.
    Succeeded,
    /// Begun, and not done.
    Failed,
    /// Not let in by the agent.
    Refused,
    /// Not begun in time.
    Expired,
    /// Taken back.
    Cancelled,
}

/// What can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It goes out on the agent's stream.
    Sent,
    /// The agent turned up and has not seen it.
    NotSeen,
    /// The agent has it in its journal.
    Received,
    /// The agent began it.
    Started,
    /// It ended in this state.
    Ended(State),
}

/// An event that can't happen in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a command that is {state} cannot become {event:?}")]
pub struct Illegal {
    /// Where it stood.
    pub state: State,
    /// What was to happen.
    pub event: Event,
}

impl State {
    /// Whether nothing more can happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Refused | Self::Expired | Self::Cancelled)
    }

    /// The state that an outcome leads to.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Succeeded(_) => Self::Succeeded,
            Outcome::Failed { .. } => Self::Failed,
            Outcome::Refused { .. } => Self::Refused,
            Outcome::Expired => Self::Expired,
            Outcome::Cancelled { .. } => Self::Cancelled,
        }
    }

    /// The message's word for it.
    pub fn to_wire(self) -> CommandState {
        match self {
            Self::Waiting => CommandState::Waiting,
            Self::Sent => CommandState::Sent,
            Self::Received => CommandState::Received,
            Self::Running => CommandState::Running,
            Self::Succeeded => CommandState::Succeeded,
            Self::Failed => CommandState::Failed,
            Self::Refused => CommandState::Refused,
            Self::Expired => CommandState::Expired,
            Self::Cancelled => CommandState::Cancelled,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_wire().as_str_name().trim_start_matches("COMMAND_STATE_").to_ascii_lowercase();
        f.pad(&name)
    }
}

/// The state after `event`. Messages of a lost connection may arrive late or not at all, so an agent's
/// later word implies its earlier ones.
pub fn next(state: State, event: Event) -> Result<State, Illegal> {
    use State::{Cancelled, Expired, Failed, Received, Refused, Running, Sent, Succeeded, Waiting};
    Ok(match (state, event) {
        (Waiting | Sent, Event::Sent) => Sent,
        (Waiting | Sent, Event::NotSeen) => Waiting,
        (Sent | Received, Event::Received) => Received,
        (Running, Event::Received | Event::Started) => Running,
        (Sent | Received, Event::Started) => Running,
        (Waiting, Event::Ended(end @ (Expired | Cancelled))) => end,
        (Sent | Received | Running, Event::Ended(end @ (Succeeded | Failed | Cancelled))) => end,
        (Sent | Received, Event::Ended(Refused)) => Refused,
        (state, event) => return Err(Illegal { state, event }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [State; 9] = [
        State::Waiting,
        State::Sent,
        State::Received,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::Refused,
        State::Expired,
        State::Cancelled,
    ];

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Sent),
            Just(Event::NotSeen),
            Just(Event::Received),
            Just(Event::Started),
            proptest::sample::select(&ALL[..]).prop_map(Event::Ended),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_a_command_ends_once_and_only_by_an_end(events in proptest::collection::vec(any_event(), 0..40)) {
            let mut state = State::Waiting;
            let mut ends = 0;
            for event in events {
                if let Ok(after) = next(state, event) {
                    prop_assert!(!state.is_final(), "left {state}");
                    if after.is_final() {
                        ends += 1;
                        prop_assert_eq!(event, Event::Ended(after));
                    }
                    if after == State::Expired {
                        prop_assert_eq!(state, State::Waiting, "what may have run never expires");
                    }
                    if after == State::Refused {
                        prop_assert!(state != State::Running, "what runs is not refused");
                    }
                    state = after;
                }
            }
            prop_assert!(ends <= 1);
        }
    }

    #[test]
    fn the_usual_way() {
        let mut state = State::Waiting;
        for (event, expected) in [
            (Event::Sent, State::Sent),
            (Event::NotSeen, State::Waiting),
            (Event::Sent, State::Sent),
            (Event::Received, State::Received),
            (Event::Started, State::Running),
            (Event::Ended(State::Succeeded), State::Succeeded),
        ] {
            state = next(state, event).unwrap();
            assert_eq!(state, expected);
        }
        assert!(next(state, Event::Ended(State::Failed)).is_err());
    }
}
