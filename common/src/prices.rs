//! What AWS takes for what is used: one list a region, dated, with its source. From a list come estimates, never bills.

use crate::usage::{Key, Meter};
use serde::Deserialize;

const HOUR: f64 = 3600.0;
const KIB: f64 = 1024.0;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// Hours of a month, as AWS reckons them.
pub const MONTH_HOURS: f64 = 730.0;

/// Prices in one region, in the currency's whole units.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// As in `eu-west-2`.
    pub region: String,
    /// As in `USD`.
    pub currency: String,
    /// When they were looked up.
    pub dated: jiff::civil::Date,
    /// Where.
    pub source: String,
    /// Fargate, for an hour of a vCPU.
    pub vcpu_hour: f64,
    /// Fargate, for an hour of a GiB.
    pub gib_hour: f64,
    /// The same on Spot.
    pub spot_vcpu_hour: f64,
    /// The same on Spot.
    pub spot_gib_hour: f64,
    /// Aurora Serverless v2, for an hour of an ACU.
    pub acu_hour: f64,
    /// S3 Standard, for a month of a GiB.
    pub stored_gib_month: f64,
    /// S3, for a thousand requests of whatever kind.
    pub requests_1000: f64,
    /// CloudWatch Logs, for a GiB taken in.
    pub log_gib: f64,
}

/// Amounts in the units that people reckon in.
pub fn in_units(meter: Meter, amount: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let amount = amount as f64;
    match meter {
        Meter::FargateCpu => amount / KIB / HOUR,
        Meter::FargateMemory => amount / KIB / HOUR,
        Meter::AuroraCapacity => amount / 1000.0 / HOUR,
        Meter::S3Stored => amount / GIB / MONTH_HOURS,
        Meter::LogsIngested => amount / GIB,
        Meter::Awake => amount / HOUR,
        Meter::S3Requests | Meter::Unspecified => amount,
    }
}

impl Prices {
    /// What so much of it costs.
    pub fn cost(&self, key: &Key, amount: u64) -> f64 {
        let price = match (key.meter, key.spot) {
            (Meter::FargateCpu, false) => self.vcpu_hour,
            (Meter::FargateCpu, true) => self.spot_vcpu_hour,
            (Meter::FargateMemory, false) => self.gib_hour,
            (Meter::FargateMemory, true) => self.spot_gib_hour,
            (Meter::AuroraCapacity, _) => self.acu_hour,
            (Meter::S3Stored, _) => self.stored_gib_month,
            (Meter::S3Requests, _) => self.requests_1000 / 1000.0,
            (Meter::LogsIngested, _) => self.log_gib,
            (Meter::Awake | Meter::Unspecified, _) => 0.0,
        };
        in_units(key.meter, amount) * price
    }

    /// Which prices can't be meant.
    pub fn odd(&self) -> Vec<(&'static str, f64)> {
        [
            ("vcpu_hour", self.vcpu_hour),
            ("gib_hour", self.gib_hour),
            ("spot_vcpu_hour", self.spot_vcpu_hour),
            ("spot_gib_hour", self.spot_gib_hour),
            ("acu_hour", self.acu_hour),
            ("stored_gib_month", self.stored_gib_month),
            ("requests_1000", self.requests_1000),
            ("log_gib", self.log_gib),
        ]
        .into_iter()
        .filter(|(_, price)| !(0.0..=1000.0).contains(price))
        .collect()
    }
}

/// Of eu-west-2, where nothing else is configured.
pub fn built_in() -> Vec<Prices> {
    vec![Prices {
        region: "eu-west-2".into(),
        currency: "USD".into(),
        dated: jiff::civil::date(2025, 6, 1),
        source: "AWS's published prices, not looked up since; Spot, which varies, is assumed at 30 % of on-demand"
            .into(),
        vcpu_hour: 0.04656,
        gib_hour: 0.00511,
        spot_vcpu_hour: 0.013_968,
        spot_gib_hour: 0.001_533,
        acu_hour: 0.14,
        stored_gib_month: 0.024,
        requests_1000: 0.0053,
        log_gib: 0.5985,
    }]
}

#[cfg(test)]
mod tests {
    use crate::usage::Component;

    use super::*;

    fn cost(meter: Meter, spot: bool, amount: u64) -> f64 {
        let key = Key { spot, ..Key::new(meter, Component::Run) };
        built_in()[0].cost(&key, amount)
    }

    #[test]
    fn an_hour_of_the_usual_things_costs_what_the_list_says() {
        let near = |one: f64, other: f64| assert!((one - other).abs() < 1e-9, "{one} is not {other}");
        near(cost(Meter::FargateCpu, false, 1024 * 3600), 0.04656);
        near(cost(Meter::FargateCpu, true, 256 * 3600), 0.013_968 / 4.0);
        near(cost(Meter::FargateMemory, false, 2 * 1024 * 3600), 2.0 * 0.00511);
        near(cost(Meter::AuroraCapacity, false, 500 * 3600), 0.07);
        near(cost(Meter::S3Stored, false, 730 * 1024 * 1024 * 1024), 0.024);
        near(cost(Meter::S3Requests, false, 1000), 0.0053);
        near(cost(Meter::LogsIngested, false, 1024 * 1024 * 1024), 0.5985);
        near(cost(Meter::Awake, false, 3600), 0.0);
        assert!(built_in()[0].odd().is_empty());
        assert_eq!(Prices { acu_hour: f64::NAN, ..built_in().remove(0) }.odd().len(), 1);
    }
}
