//! How long a command may take: until an agent begins it, until it is done, until hubctl stops waiting.

use std::time::Duration;

use clap::Args;
use sfdata_common::limits;

/// An action's own end comes first, then its outcome travels: hubctl waits so much longer.
const OUTCOME_ON_ITS_WAY: Duration = Duration::from_secs(15);

/// Waiting, or not.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Waiting")]
pub(crate) struct Wait {
    /// Print the command's id and return as soon as the hub has it
    #[arg(long)]
    no_wait: bool,
    /// How long it may take, as in 90s or 10m; the action gives up by then, too
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = deadline)]
    timeout: Duration,
    /// How long an agent that is away may take to come and begin
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = validity)]
    expires_in: Duration,
}

impl Wait {
    /// Whether to follow the command at all.
    pub(crate) fn waits(&self) -> bool {
        !self.no_wait
    }

    /// The action's own deadline.
    pub(crate) fn deadline(&self) -> Duration {
        self.timeout
    }

    /// How long hubctl follows it.
    pub(crate) fn patience(&self) -> Duration {
        self.timeout + OUTCOME_ON_ITS_WAY
    }

    /// How long the command stays valid.
    pub(crate) fn validity(&self) -> Duration {
        self.expires_in
    }
}

fn deadline(text: &str) -> Result<Duration, String> {
    within(text, limits::ACTION_DEADLINE_MAX)
}

fn validity(text: &str) -> Result<Duration, String> {
    within(text, limits::COMMAND_VALIDITY_MAX)
}

fn within(text: &str, most: Duration) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_secs(1) || duration > most {
        return Err(format!("must be 1s to {}", humantime::format_duration(most)));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_stay_within_what_an_agent_accepts() {
        assert_eq!(deadline("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(deadline("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(deadline("61m"), Err("must be 1s to 1h".into()));
        assert_eq!(deadline("0s"), Err("must be 1s to 1h".into()));
        assert_eq!(validity("1day"), Ok(Duration::from_secs(86_400)));
        assert!(validity("2days").is_err());
        assert!(deadline("soon").is_err());
    }
}
