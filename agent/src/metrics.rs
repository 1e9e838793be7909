//! What Prometheus reads of the agent, as cheap handles that its modules hold; what can be looked up anew for each page
//! is, in [`live`].
//!
//! It leaves the account as little as anything else does that an agent tells: labels are words of fixed sets and names of
//! AWS's own operations, and never a name of a job, a file or a service, or the text of an error.

mod live;

use prometheus_client::metrics::histogram::Histogram;
use sfdata_common::{
    metrics::{Builder, Page, Total, Totals},
    outcome,
};

pub use self::live::{Live, Seen};
use crate::{power::state::Phase, services::Services};

/// How a try to connect can end.
pub(crate) const CONNECTS: [&str; 3] = ["welcomed", "refused", "failed"];

/// All metrics of the agent.
#[derive(Debug, Clone)]
pub struct Metrics {
    page: Page,
    /// Tries to connect to the hub, by `result`: one of [`CONNECTS`].
    pub connects: Totals,
    /// Commands that ended here, by `action` and `outcome`.
    pub commands: Totals<2>,
    /// Commands that the door did not let in, by `reason`.
    pub refusals: Totals,
    /// Phases that the platform's power entered, by `phase`.
    pub power_transitions: Totals,
    /// Seconds from the decision to wake to all of Dagster being there.
    pub wake_seconds: Histogram,
    /// Seconds that the power controller took to read all its sources.
    pub power_look_seconds: Histogram,
    /// Seconds that a look at services and database took.
    pub health_look_seconds: Histogram,
    /// Arrivals that Dagster has.
    pub arrivals_handed_on: Total,
    /// What is looked up for each page.
    pub live: Live,
}

impl Metrics {
    /// With what these services count for themselves.
    pub fn of(services: &Services) -> Self {
        let mut new = Self::builder();
        let help =
            "Requests to AWS, each try by itself: throttled and failed ones the SDK tries again; refused has AWS's no";
        new.counted("aws_requests_total", help, services.requests());
        let help = "Questions and orders to Dagster, by ok or the kind of failure";
        new.counted("dagster_calls_total", help, services.dagster.calls());
        Self::named(new)
    }

    fn builder() -> Builder {
        Builder::new("sfdata_agent", env!("CARGO_PKG_VERSION"))
    }

    fn named(mut new: Builder) -> Self {
        Self {
            connects: new.totals("connects_total", "Tries to connect to the hub", "result").starting_with(CONNECTS),
            commands: new.counted("commands_total", "Commands that ended here", Totals::by(["action", "outcome"])),
            refusals: new
                .totals("refusals_total", "Commands that were not let in", "reason")
                .starting_with(outcome::refusal_names()),
            power_transitions: new
                .totals("power_transitions_total", "Phases that the platform's power entered", "phase")
                .starting_with(Phase::ALL.map(Phase::as_str)),
            wake_seconds: new.add(
                "power_wake_duration_seconds",
                "Time from the decision to wake to all of Dagster being there",
                Histogram::new([15.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0]),
            ),
            power_look_seconds: new.add(
                "power_look_duration_seconds",
                "Time that the power controller took to read all its sources",
                looks(),
            ),
            health_look_seconds: new.add(
                "health_look_duration_seconds",
                "Time that a look at services and database took",
                looks(),
            ),
            arrivals_handed_on: new.total("arrivals_handed_on_total", "Arrivals that Dagster has"),
            live: new.collector(Live::default()),
            page: new.page(),
        }
    }

    /// What Prometheus reads.
    pub fn page(&self) -> Page {
        self.page.clone()
    }
}

impl Default for Metrics {
    /// Where nobody asks AWS or Dagster.
    fn default() -> Self {
        Self::named(Self::builder())
    }
}

/// A look is a few calls, each of which may be tried several times.
fn looks() -> Histogram {
    Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}
