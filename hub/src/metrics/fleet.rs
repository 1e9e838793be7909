//! The fleet as Prometheus reads it. Labels are ids of registered agents and names of the hub's own, so that their number
//! is bounded whatever an agent tells.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

/// What the fleet was like at the last look.
#[derive(Debug, Default)]
pub struct Seen {
    /// How each agent is, in a word.
    pub words: BTreeMap<String, String>,
    /// For how many things a rule's condition holds, by agent (empty: the hub itself) and rule; whether the rule is on
    /// or not, and before its delay has passed.
    pub conditions: BTreeMap<(String, String), u64>,
    /// The estimates' currency.
    pub currency: String,
    /// This month's costs, by agent.
    pub costs: BTreeMap<String, Cost>,
}

/// What a month costs one agent's platform, in the currency's whole units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// So far.
    pub so_far: f64,
    /// By its end, at the pace so far.
    pub forecast: f64,
    /// What it may be, if that is said.
    pub budget: Option<f64>,
}

/// The latest look; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fleet(Arc<ArcSwap<Seen>>);

impl Fleet {
    /// Take the place of the look before.
    pub fn saw(&self, seen: Seen) {
        self.0.store(Arc::new(seen));
    }
}

impl Collector for Fleet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let seen = self.0.load();
        let mut gauge = |name: &str, help: &str, samples: &mut dyn Iterator<Item = (Vec<Label<'_>>, f64)>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in samples {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
            Ok(())
        };
        let words = seen.words.iter().map(|(agent, word)| (vec![("agent", &**agent), ("word", &**word)], 1.0));
        gauge("agent_health", "Always 1; the label tells how the agent's platform is", &mut { words })?;
        let conditions = seen.conditions.iter().map(|((agent, rule), count)| {
            #[expect(clippy::cast_precision_loss, reason = "a handful")]
            (vec![("agent", &**agent), ("rule", &**rule)], *count as f64)
        });
        let help = "Things for which an alert rule's condition holds, before its delay; without agent: the hub's own";
        gauge("alert_conditions", help, &mut { conditions })?;
        let costs = || seen.costs.iter().map(|(agent, cost)| (labelled(agent, &seen.currency), cost));
        let so_far = costs().map(|(labels, cost)| (labels, cost.so_far));
        gauge("agent_month_cost", "Estimate of what this month has cost so far", &mut { so_far })?;
        let forecast = costs().map(|(labels, cost)| (labels, cost.forecast));
        gauge("agent_month_cost_forecast", "Estimate of what this month will have cost", &mut { forecast })?;
        let budget = costs().filter_map(|(labels, cost)| Some((labels, cost.budget?)));
        gauge("agent_month_cost_budget", "What a month may cost, where that is said", &mut { budget })
    }
}

type Label<'a> = (&'static str, &'a str);

fn labelled<'a>(agent: &'a str, currency: &'a str) -> Vec<Label<'a>> {
    vec![("agent", agent), ("currency", currency)]
}
