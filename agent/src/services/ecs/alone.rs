//! What lets no second daemon start beside the first: two would launch every schedule twice.

use aws_sdk_ecs::types::{AvailabilityZoneRebalancing, DeploymentConfiguration, Service};

use super::resource;
use crate::{config::Role, services::Plan};

/// minimumHealthyPercent and maximumPercent.
pub(super) fn percents(service: &Service) -> (i32, i32) {
    let configuration = service.deployment_configuration();
    let given = |percent: Option<i32>, default| percent.unwrap_or(default);
    (
        given(configuration.and_then(DeploymentConfiguration::minimum_healthy_percent), 100),
        given(configuration.and_then(DeploymentConfiguration::maximum_percent), 200),
    )
}

/// The deployment configuration for a daemon that could run twice, which keeps all else that its own says.
pub(super) fn configuration(service: &Service, role: Role) -> Option<DeploymentConfiguration> {
    (role == Role::Daemon && percents(service) != (0, 100)).then(|| {
        let mut configuration =
            service.deployment_configuration().cloned().unwrap_or_else(|| DeploymentConfiguration::builder().build());
        configuration.minimum_healthy_percent = Some(0);
        configuration.maximum_percent = Some(100);
        configuration
    })
}

/// Rebalancing over Availability Zones off, where it is on for a daemon: ECS then wants a maximum above 100 per cent, to
/// start a second task before it stops the first.
pub(super) fn unbalanced(service: &Service, role: Role) -> Option<AvailabilityZoneRebalancing> {
    let on = service.availability_zone_rebalancing() == Some(&AvailabilityZoneRebalancing::Enabled);
    (role == Role::Daemon && on).then_some(AvailabilityZoneRebalancing::Disabled)
}

/// Whether it can't run twice as it is.
pub(super) fn is(service: &Service, role: Role) -> bool {
    configuration(service, role).is_none() && unbalanced(service, role).is_none()
}

/// What a change of the service sets besides.
pub(super) fn plan(mut plan: Plan, service: &Service, name: &str, role: Role) -> Plan {
    let (least, most) = percents(service);
    if configuration(service, role).is_some() {
        for (property, before, after) in [("minimumHealthyPercent", least, "0"), ("maximumPercent", most, "100")] {
            plan = plan.change(resource(name), property, before.to_string(), after);
        }
    }
    if let Some(off) = unbalanced(service, role) {
        plan = plan.change(resource(name), "availabilityZoneRebalancing", "ENABLED", off.as_str());
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_that_could_run_twice_is_given_a_deployment_configuration() {
        let service = |least, most| {
            let configuration =
                DeploymentConfiguration::builder().minimum_healthy_percent(least).maximum_percent(most).build();
            Service::builder().deployment_configuration(configuration).build()
        };
        assert!(is(&service(100, 200), Role::CodeServer) && is(&service(0, 100), Role::Daemon));
        for other in [service(100, 200), service(0, 200), Service::builder().build()] {
            let set = configuration(&other, Role::Daemon).unwrap();
            assert_eq!((set.minimum_healthy_percent, set.maximum_percent), (Some(0), Some(100)));
        }
    }

    #[test]
    fn a_daemon_that_ecs_rebalances_is_so_no_more() {
        let on = Service::builder().availability_zone_rebalancing(AvailabilityZoneRebalancing::Enabled).build();
        assert_eq!(unbalanced(&on, Role::Daemon), Some(AvailabilityZoneRebalancing::Disabled));
        assert_eq!(unbalanced(&on, Role::CodeServer), None);
        assert_eq!(unbalanced(&Service::builder().build(), Role::Daemon), None);
        let planned = plan(Plan::default(), &on, "daemon", Role::Daemon).into_wire();
        assert_eq!(planned.changes.len(), 3, "{planned:?}");
    }
}
