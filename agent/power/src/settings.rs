//! The `[power]` section: how eagerly the platform is put to sleep. Everything has a default that suits most.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;

/// How the platform is put to sleep and woken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long everything has to be quiet between the look that finds no reason and the one that confirms it.
    #[serde(with = "humantime_serde")]
    pub quiet: Duration,
    /// How long the platform stays awake for a person.
    #[serde(with = "humantime_serde")]
    pub person: Duration,
    /// So much longer than usual a wake may take before a schedule's tick finds no daemon.
    #[serde(with = "humantime_serde")]
    pub margin: Duration,
    /// The wake duration that is assumed before one was measured.
    #[serde(with = "humantime_serde")]
    pub wake: Duration,
    /// A wake that takes longer is told as a fault and tried anew.
    #[serde(with = "humantime_serde")]
    pub stuck: Duration,
    /// Nothing sleeps for longer without a look: a schedule may have been switched on by somebody who reaches the database.
    #[serde(with = "humantime_serde")]
    pub longest_sleep: Duration,
    /// Sensors, which may watch something outside of Dagster, are woken for so often; by default once a day, and never where
    /// the agent is told of what arrives.
    pub sensor_poll: Option<Poll>,
    /// The same by a sensor's name.
    pub sensor_polls: BTreeMap<String, Poll>,
    /// Spans of time in which the platform is kept awake, such as the week of a statutory return.
    pub awake: Vec<Span>,
}

/// How often a sensor is woken for: `24h`, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Poll(pub Option<Duration>);

impl TryFrom<String> for Poll {
    type Error = humantime::DurationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match &*text {
            "never" => Ok(Self(None)),
            text => humantime::parse_duration(text).map(|every| Self(Some(every))),
        }
    }
}

/// From one instant until another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Begin.
    pub from: Timestamp,
    /// End.
    pub until: Timestamp,
}

/// Once a day.
const SENSOR_POLL: Poll = Poll(Some(Duration::from_secs(24 * 3600)));

impl Settings {
    /// How often a sensor is woken for, by `location/name` or by its name alone.
    pub fn poll(&self, sensor: &str) -> Option<Duration> {
        let bare = sensor.rsplit('/').next().unwrap_or(sensor);
        let own = self.sensor_polls.get(sensor).or_else(|| self.sensor_polls.get(bare));
        own.copied().unwrap_or_else(|| self.usual_poll()).0
    }

    /// Of sensors that have no setting of their own.
    pub fn usual_poll(&self) -> Poll {
        self.sensor_poll.unwrap_or(SENSOR_POLL)
    }

    /// What can't be meant: which setting, what was given, what to do.
    pub fn odd(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut odd = Vec::new();
        let bounds = [
            ("quiet", self.quiet, 1, 3600),
            ("person", self.person, 1, 24 * 3600),
            ("margin", self.margin, 0, 3600),
            ("wake", self.wake, 1, 3600),
            ("stuck", self.stuck, 60, 24 * 3600),
            ("longest_sleep", self.longest_sleep, 3600, 31 * 24 * 3600),
        ];
        for (key, value, least, most) in bounds {
            if value < Duration::from_secs(least) || value > Duration::from_secs(most) {
                let value = humantime::format_duration(value).to_string();
                odd.push((key, value, "look at deploy/config/agent.toml for what is usual"));
            }
        }
        let spans = self.awake.iter().filter(|span| span.from >= span.until);
        odd.extend(spans.map(|span| ("awake", format!("from {}", span.from), "write an until that is later")));
        odd
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(30),
            person: Duration::from_secs(15 * 60),
            margin: Duration::from_secs(390),
            wake: Duration::from_secs(120),
            stuck: Duration::from_secs(10 * 60),
            longest_sleep: Duration::from_secs(24 * 3600),
            sensor_poll: None,
            sensor_polls: BTreeMap::new(),
            awake: Vec::new(),
        }
    }
}
