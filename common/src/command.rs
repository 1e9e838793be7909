//! A command as the rest of the code sees it: typed, checked, with what each action means.
//!
//! Parsing happens once, after the signatures hold: `Command::parse` in the agent's door and in
//! the hub's `submit`. Bytes that say more than this version understands are refused, because a
//! part of a signed order that is not understood can't be obeyed.

mod arrivals;
mod aurora;
mod dagster;
mod ecs;
mod environment;
mod images;
mod logs;
mod power;
mod rollout;
mod run;
mod s3;

use std::{fmt, time::Duration};

use jiff::Timestamp;
use prost::Message as _;
use sfdata_proto::v1 as wire;

pub use self::{
    arrivals::{ArrivalId, Arrivals},
    aurora::{Acu, Aurora, Capacity},
    dagster::{COMMAND_TAG, Dagster, Launch, RUN_STATUSES},
    ecs::{Ecs, FargateCapacity},
    environment::{Environment, is_secret},
    images::Images,
    logs::{LogSource, Logs, LogsUntil},
    power::Power,
    rollout::Rollout,
    run::Run,
    s3::{Bucket, Object, S3},
};
use crate::{
    ids::{AgentId, CommandId, OperatorName},
    image::Image,
    limits,
    sealed::ReplyKey,
};

/// What an action may do to an LA; operators' roles and local policies speak of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Looks, changes nothing, reveals no LA data.
    Read,
    /// Scale, restart, launch.
    Operate,
    /// Deploy, configure.
    Change,
    /// Touches or reveals an LA's files, logs or database content.
    Data,
    /// Can't be taken back.
    Destroy,
}

impl Class {
    /// The word used in policies, tables and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Change => "change",
            Self::Data => "data",
            Self::Destroy => "destroy",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One order to one service of an LA's platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The containers.
    Ecs(Ecs),
    /// The database.
    Aurora(Aurora),
    /// The buckets.
    S3(S3),
    /// The agent itself.
    Agent(Agent),
    /// What the containers write.
    Logs(Logs),
    /// Files that have arrived.
    Arrivals(Arrivals),
    /// Whether the platform sleeps.
    Power(Power),
    /// Dagster itself.
    Dagster(Dagster),
    /// Images in the registry of the agent's own account.
    Images(Images),
}

/// Actions on the agent itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    /// Look at the platform now and report it. Always legal.
    Refresh,
    /// Stop working on a command that the same operator ordered. Always legal; bars none that has not come.
    CancelOwn(CommandId),
    /// Stop working on another command. Legal at any time; says what it found.
    Cancel(CommandId),
    /// Run another image, and go back where the new agent does not report in. The journal remembers the definition before
    /// and the deployment that was there, so that whichever agent comes back ends it.
    Upgrade {
        /// What it shall run.
        image: Image,
        /// How long all of it may take; a third is kept for going back.
        deadline: Duration,
    },
    /// Propose a configuration from what the account holds. Always legal.
    Discover {
        /// Of ECS this cluster alone; none is all of them.
        cluster: Option<String>,
    },
}

/// What an action holds while it runs: actions on one resource run one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// One ECS service.
    EcsService(String),
    /// The database.
    Database,
    /// All ECS services of Dagster.
    Dagster,
    /// A database that is restored beside it, by its name.
    RestoredDatabase(String),
    /// One task that belongs to no service, by the id of the command that runs it or by its own.
    Task(String),
    /// One run of Dagster's, by its id or by that of the command that launches it.
    Run(String),
    /// What Dagster knows of its code locations.
    CodeLocations,
    /// All buckets: what is done to one may need another to be as it should be.
    Buckets,
    /// The files that have arrived.
    Arrivals,
    /// The tags of one repository of images, by its name.
    Images(String),
    /// What the agent itself runs.
    Agent,
}

/// Why signed bytes are no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not the message it should be, or a field out of its range.
    #[error("the signed bytes are not a valid command: {0}")]
    Malformed(String),
    /// More than this version knows, or not in canonical form.
    #[error("the command has fields that this version does not know; update the agent or use an older hubctl")]
    UnknownFields,
}

fn malformed(what: impl fmt::Display) -> ParseError {
    ParseError::Malformed(what.to_string())
}

/// An operator's order to one or more agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Unique for ever.
    pub id: CommandId,
    /// What to do.
    pub action: Action,
    /// Who shall do it: sorted, unique, at least one.
    pub targets: Vec<AgentId>,
    /// Not legal before.
    pub not_before: Timestamp,
    /// Must have begun by then.
    pub expires: Timestamp,
    /// Who orders it.
    pub operator: OperatorName,
    /// Why, in the operator's words.
    pub reason: String,
    /// The trust bundle that the operator held.
    pub trust_version: u64,
    /// Whether to act at all.
    pub mode: Mode,
    /// What the answer is sealed to: there just when the action reveals an LA's data.
    pub reply_key: Option<ReplyKey>,
}

/// What becomes of the plan that every action makes before it changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It is carried out.
    #[default]
    Act,
    /// It is carried out if it has this digest: the world is as the operator saw it.
    ActIfPlan([u8; 32]),
    /// It is told, and nothing is changed.
    PlanOnly,
}

impl Command {
    /// Media type of a signed command.
    pub const PAYLOAD_TYPE: &'static str = "application/vnd.sfdata.command.v1+protobuf";

    /// Read a command from bytes whose signature was verified. Only the canonical encoding passes.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let message = wire::Command::decode(payload).map_err(malformed)?;
        if message.encoded_len() != payload.len() || message.encode_to_vec() != payload {
            return Err(ParseError::UnknownFields);
        }
        Self::try_from(message)
    }

    /// The bytes to be signed.
    pub fn encode(&self) -> Vec<u8> {
        wire::Command {
            id: self.id.to_string(),
            action: Some(self.action.to_wire()),
            targets: self.targets.iter().map(ToString::to_string).collect(),
            not_before_unix_ms: self.not_before.as_millisecond(),
            expires_unix_ms: self.expires.as_millisecond(),
            operator: self.operator.to_string(),
            reason: self.reason.clone(),
            trust_version: self.trust_version,
            plan_only: self.mode == Mode::PlanOnly,
            if_plan: match &self.mode {
                Mode::ActIfPlan(digest) => digest.to_vec().into(),
                Mode::Act | Mode::PlanOnly => Default::default(),
            },
            reply_key: self.reply_key.map_or_else(Default::default, |key| key.as_bytes().to_vec().into()),
        }
        .encode_to_vec()
    }

    /// What it may do to an LA: its action's class, but for a plan, which only looks.
    pub fn class(&self) -> Class {
        if self.mode == Mode::PlanOnly { Class::Read } else { self.action.class() }
    }

    /// What it holds while it runs; `None` never waits.
    pub fn resource(&self) -> Option<Resource> {
        if self.mode == Mode::PlanOnly { None } else { self.action.resource(self.id) }
    }
}

impl TryFrom<wire::Command> for Command {
    type Error = ParseError;

    fn try_from(message: wire::Command) -> Result<Self, ParseError> {
        let targets: Vec<AgentId> =
            message.targets.iter().map(|id| id.parse()).collect::<Result<_, _>>().map_err(malformed)?;
        if targets.is_empty() || !targets.is_sorted_by(|a, b| a < b) {
            return Err(malformed("targets must be sorted, unique and at least one"));
        }
        if targets.len() > limits::TARGETS_PER_COMMAND {
            return Err(malformed(format!("more than {} targets", limits::TARGETS_PER_COMMAND)));
        }
        if message.reason.len() > limits::REASON_BYTES {
            return Err(malformed(format!("the reason is longer than {} bytes", limits::REASON_BYTES)));
        }
        let time = |ms| Timestamp::from_millisecond(ms).map_err(malformed);
        let (not_before, expires) = (time(message.not_before_unix_ms)?, time(message.expires_unix_ms)?);
        if expires <= not_before {
            return Err(malformed("it expires before it becomes valid"));
        }
        if expires.duration_since(not_before).unsigned_abs() > limits::COMMAND_VALIDITY_MAX {
            return Err(malformed(format!("valid for longer than {:?}", limits::COMMAND_VALIDITY_MAX)));
        }
        let action: Action = message.action.unwrap_or_default().try_into()?;
        let mode = match (message.plan_only, &message.if_plan[..]) {
            (false, []) => Mode::Act,
            (true, []) => Mode::PlanOnly,
            (false, digest) => {
                Mode::ActIfPlan(digest.try_into().map_err(|_| malformed("a plan's digest has 32 bytes"))?)
            }
            (true, _) => return Err(malformed("it asks for a plan and names one")),
        };
        if mode != Mode::Act && !action.has_plan() {
            return Err(malformed(format!("{} changes nothing, so that there is no plan of it", action.name())));
        }
        let reply_key = match &message.reply_key[..] {
            [] => None,
            key => Some(ReplyKey::from_bytes(key).ok_or_else(|| malformed("a reply key has 32 bytes"))?),
        };
        match (reply_key.is_some(), action.reveals_data()) {
            (false, true) => {
                return Err(malformed(format!("{} has no key to seal its answer to", action.name())));
            }
            (true, false) => return Err(malformed(format!("{} reveals nothing to seal to a key", action.name()))),
            _ => {}
        }
        Ok(Self {
            id: message.id.parse().map_err(malformed)?,
            action,
            targets,
            not_before,
            expires,
            operator: message.operator.parse().map_err(malformed)?,
            reason: message.reason,
            trust_version: message.trust_version,
            mode,
            reply_key,
        })
    }
}

impl Action {
    /// `noun.verb`, as in policies, tables and audit entries.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ecs(ecs) => ecs.name(),
            Self::Aurora(aurora) => aurora.name(),
            Self::S3(s3) => s3.name(),
            Self::Agent(Agent::Refresh) => "agent.refresh",
            Self::Agent(Agent::Cancel(_)) => "agent.cancel",
            Self::Agent(Agent::CancelOwn(_)) => "agent.cancel-own",
            Self::Agent(Agent::Upgrade { .. }) => "agent.upgrade",
            Self::Agent(Agent::Discover { .. }) => "agent.discover",
            Self::Logs(logs) => logs.name(),
            Self::Arrivals(arrivals) => arrivals.name(),
            Self::Power(power) => power.name(),
            Self::Dagster(dagster) => dagster.name(),
            Self::Images(images) => images.name(),
        }
    }

    /// What the action may do to an LA.
    pub fn class(&self) -> Class {
        match self {
            Self::Aurora(aurora) => aurora.class(),
            Self::Ecs(ecs) => ecs.class(),
            Self::S3(s3) => s3.class(),
            Self::Agent(Agent::Refresh | Agent::CancelOwn(_) | Agent::Discover { .. }) => Class::Read,
            Self::Agent(Agent::Cancel(_)) => Class::Operate,
            Self::Agent(Agent::Upgrade { .. }) => Class::Change,
            Self::Logs(logs) => logs.class(),
            Self::Arrivals(arrivals) => arrivals.class(),
            Self::Power(power) => power.class(),
            Self::Dagster(dagster) => dagster.class(),
            Self::Images(images) => images.class(),
        }
    }

    /// Whether it changes the platform, so that it can be asked what it would change.
    pub fn has_plan(&self) -> bool {
        self.class() != Class::Read && !matches!(self, Self::Agent(Agent::Cancel(_))) && !self.reveals_data()
    }

    /// Whether its answer holds an LA's data, so that it is sealed to the operator who asks.
    pub fn reveals_data(&self) -> bool {
        match self {
            Self::Logs(_) => true,
            Self::S3(s3) => s3.reveals_data(),
            Self::Arrivals(arrivals) => arrivals.reveals_data(),
            Self::Ecs(_) | Self::Aurora(_) | Self::Agent(_) | Self::Power(_) | Self::Dagster(_) | Self::Images(_) => {
                false
            }
        }
    }

    /// What it holds while it runs; `None` never waits.
    fn resource(&self, command: CommandId) -> Option<Resource> {
        match self {
            Self::Ecs(ecs) => ecs.resource(command),
            Self::Aurora(aurora) => aurora.resource(),
            Self::S3(s3) => s3.resource(),
            Self::Arrivals(arrivals) => arrivals.resource(),
            Self::Agent(Agent::Upgrade { .. }) => Some(Resource::Agent),
            Self::Agent(_) | Self::Logs(_) | Self::Power(_) => None,
            Self::Dagster(dagster) => dagster.resource(command),
            Self::Images(images) => images.resource(),
        }
    }

    /// The message that carries it.
    pub fn to_wire(&self) -> wire::Action {
        use wire::{action, agent_action};
        let kind = match self {
            Self::Ecs(ecs) => action::Kind::Ecs(ecs.to_wire()),
            Self::Aurora(aurora) => action::Kind::Aurora(aurora.to_wire()),
            Self::S3(s3) => action::Kind::S3(s3.to_wire()),
            Self::Agent(agent) => action::Kind::Agent(wire::AgentAction {
                kind: Some(match agent {
                    Agent::Refresh => agent_action::Kind::Refresh(wire::AgentRefresh {}),
                    Agent::Cancel(id) => agent_action::Kind::Cancel(wire::AgentCancel { command_id: id.to_string() }),
                    Agent::CancelOwn(id) => {
                        agent_action::Kind::CancelOwn(wire::AgentCancelOwn { command_id: id.to_string() })
                    }
                    Agent::Upgrade { image, deadline } => agent_action::Kind::Upgrade(wire::AgentUpgrade {
                        image: image.to_string(),
                        deadline_seconds: seconds(*deadline),
                    }),
                    Agent::Discover { cluster } => agent_action::Kind::Discover(wire::AgentDiscover {
                        cluster: cluster.clone().unwrap_or_default(),
                    }),
                }),
            }),
            Self::Logs(logs) => action::Kind::Logs(logs.to_wire()),
            Self::Arrivals(arrivals) => action::Kind::Arrivals(arrivals.to_wire()),
            Self::Power(power) => action::Kind::Power(power.to_wire()),
            Self::Dagster(dagster) => action::Kind::Dagster(dagster.to_wire()),
            Self::Images(images) => action::Kind::Images(images.to_wire()),
        };
        wire::Action { kind: Some(kind) }
    }
}

impl TryFrom<wire::Action> for Action {
    type Error = ParseError;

    fn try_from(message: wire::Action) -> Result<Self, ParseError> {
        use wire::{action, agent_action};
        Ok(match message.kind.ok_or_else(unknown)? {
            action::Kind::Ecs(ecs) => Self::Ecs(ecs.try_into()?),
            action::Kind::Aurora(aurora) => Self::Aurora(aurora.try_into()?),
            action::Kind::S3(s3) => Self::S3(s3.try_into()?),
            action::Kind::Agent(agent) => Self::Agent(match agent.kind.ok_or_else(unknown)? {
                agent_action::Kind::Refresh(_) => Agent::Refresh,
                agent_action::Kind::Cancel(cancel) => Agent::Cancel(cancel.command_id.parse().map_err(malformed)?),
                agent_action::Kind::CancelOwn(cancel) => {
                    Agent::CancelOwn(cancel.command_id.parse().map_err(malformed)?)
                }
                agent_action::Kind::Upgrade(upgrade) => Agent::Upgrade {
                    image: upgrade.image.parse().map_err(malformed)?,
                    deadline: deadline(upgrade.deadline_seconds)?,
                },
                agent_action::Kind::Discover(discover) => Agent::Discover { cluster: ecs::cluster(discover.cluster)? },
            }),
            action::Kind::Logs(logs) => Self::Logs(logs.try_into()?),
            action::Kind::Arrivals(arrivals) => Self::Arrivals(arrivals.try_into()?),
            action::Kind::Power(power) => Self::Power(power.try_into()?),
            action::Kind::Dagster(dagster) => Self::Dagster(dagster.try_into()?),
            action::Kind::Images(images) => Self::Images(images.try_into()?),
        })
    }
}

fn unknown() -> ParseError {
    malformed("it names no action that this version knows")
}

fn deadline(seconds: u32) -> Result<Duration, ParseError> {
    let deadline = Duration::from_secs(seconds.into());
    if deadline.is_zero() || deadline > limits::ACTION_DEADLINE_MAX {
        return Err(malformed(format!(
            "a deadline of {seconds} s is out of range: 1 s to {:?}",
            limits::ACTION_DEADLINE_MAX
        )));
    }
    Ok(deadline)
}

fn seconds(duration: Duration) -> u32 {
    duration.as_secs().try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_action() -> impl Strategy<Value = Action> {
        prop_oneof![
            ecs::tests::any_action().prop_map(Action::Ecs),
            aurora::tests::any_action().prop_map(Action::Aurora),
            s3::tests::any_action().prop_map(Action::S3),
            logs::tests::any_action().prop_map(Action::Logs),
            arrivals::tests::any_action().prop_map(Action::Arrivals),
            power::tests::any_action().prop_map(Action::Power),
            dagster::tests::any_action().prop_map(Action::Dagster),
            images::tests::any_action().prop_map(Action::Images),
            Just(Action::Agent(Agent::Refresh)),
            proptest::option::of("[A-Za-z0-9_-]{1,40}").prop_map(|cluster| Action::Agent(Agent::Discover { cluster })),
            Just(Action::Agent(Agent::Cancel(CommandId::generate()))),
            Just(Action::Agent(Agent::CancelOwn(CommandId::generate()))),
            ("[0-9]{12}\\.dkr\\.ecr\\.eu-west-2\\.amazonaws\\.com/agent@sha256:[0-9a-f]{64}", 1u64..3600).prop_map(
                |(image, seconds)| {
                    let deadline = Duration::from_secs(seconds);
                    Action::Agent(Agent::Upgrade { image: image.parse().unwrap(), deadline })
                }
            ),
        ]
    }

    fn any_mode() -> impl Strategy<Value = Mode> {
        prop_oneof![Just(Mode::Act), any::<[u8; 32]>().prop_map(Mode::ActIfPlan), Just(Mode::PlanOnly)]
    }

    fn any_command() -> impl Strategy<Value = Command> {
        let targets = proptest::collection::btree_set("[a-z]{1,12}", 1..5);
        let when = (0i64..4_000_000_000_000, 1i64..86_400_000);
        (any_action(), targets, when, ".{0,40}", any::<u64>(), any_mode(), any::<[u8; 32]>()).prop_map(
            |(action, targets, (from, valid), reason, trust_version, mode, key)| Command {
                id: CommandId::generate(),
                mode: if action.has_plan() { mode } else { Mode::Act },
                reply_key: ReplyKey::from_bytes(&key).filter(|_| action.reveals_data()),
                action,
                targets: targets.iter().map(|id| id.parse().unwrap()).collect(),
                not_before: Timestamp::from_millisecond(from).unwrap(),
                expires: Timestamp::from_millisecond(from + valid).unwrap(),
                operator: "alice".parse().unwrap(),
                reason,
                trust_version,
            },
        )
    }

    /// Policies are held against the schema, so that an action which it lacks could be named by nobody.
    #[test]
    fn the_schema_of_policies_has_every_action_in_its_classes_and_no_other() {
        use std::collections::{BTreeMap, BTreeSet};

        use proptest::{strategy::ValueTree as _, test_runner::TestRunner};

        use crate::policy::{Side, actions};

        let mut runner = TestRunner::deterministic();
        let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for _ in 0..20_000 {
            let action = any_action().new_tree(&mut runner).unwrap().current();
            let classes = known.entry(action.name().to_owned()).or_default();
            classes.insert(action.class().to_string());
            if action.has_plan() {
                classes.insert(Class::Read.to_string());
            }
        }
        assert_eq!(actions(Side::Agent), known.clone().into_iter().collect::<Vec<_>>());
        let hub: BTreeMap<_, _> = actions(Side::Hub).into_iter().collect();
        assert!(known.iter().all(|(action, classes)| hub.get(action) == Some(classes)), "the hub knows them as well");
    }

    proptest! {
        #[test]
        fn a_command_survives_the_wire(command in any_command()) {
            prop_assert_eq!(Command::parse(&command.encode()).unwrap(), command);
        }

        #[test]
        fn a_plan_only_looks_and_holds_nothing(command in any_command()) {
            let command = Command { mode: Mode::Act, ..command };
            let plan = Command { mode: Mode::PlanOnly, ..command.clone() };
            prop_assert_eq!((plan.class(), plan.resource()), (Class::Read, None));
            prop_assert_eq!(Command::parse(&plan.encode()).is_ok(), command.action.has_plan());
            let digest = Command { mode: Mode::ActIfPlan([7; 32]), ..command.clone() };
            prop_assert_eq!((digest.class(), digest.resource()), (command.action.class(), command.resource()));
            prop_assert_eq!(Command::parse(&digest.encode()).is_ok(), command.action.has_plan());
        }

        #[test]
        fn what_reveals_data_needs_a_key_to_seal_to_and_nothing_else_has_one(command in any_command()) {
            let key = if command.reply_key.is_some() { None } else { ReplyKey::from_bytes(&[7; 32]) };
            let other = Command { reply_key: key, ..command.clone() };
            prop_assert!(matches!(Command::parse(&other.encode()), Err(ParseError::Malformed(_))));
            prop_assert!(!command.action.reveals_data() || command.action.class() == Class::Data);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Command::parse(&bytes);
        }

        #[test]
        fn a_field_of_a_later_version_is_refused(command in any_command(), number in 100u32..200) {
            let mut bytes = command.encode();
            prost::encoding::uint32::encode(number, &7, &mut bytes);
            prop_assert_eq!(Command::parse(&bytes), Err(ParseError::UnknownFields));
        }
    }
}
