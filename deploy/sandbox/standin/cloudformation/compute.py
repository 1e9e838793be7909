"""What runs: ECS, its scaling, and the machines of an auto scaling group."""

from .api import Failed
from .kinds import Made, kind


@kind("AWS::ECS::Cluster")
def cluster(api, given, name):
    settings = given.take("ClusterSettings", None)  # the request names them otherwise
    made = api("ecs", "CreateCluster", Settings=settings, ClusterName=given.take("ClusterName", name), Tags=given.tags("key", "value"),
               **given.rest())["cluster"]
    return Made(made["clusterName"], {"Arn": made["clusterArn"]},
                lambda: api("ecs", "DeleteCluster", Cluster=made["clusterArn"]))


@kind("AWS::ECS::ClusterCapacityProviderAssociations")
def capacity_providers(api, given, name):
    name = given.take("Cluster")
    api("ecs", "PutClusterCapacityProviders", Cluster=name, **given.rest())
    return Made(name)


@kind("AWS::ECS::TaskDefinition")
def task_definition(api, given, name):
    family = given.take("Family", name)
    made = api("ecs", "RegisterTaskDefinition", Family=family, Tags=given.tags("key", "value") or None,
               **given.rest())["taskDefinition"]
    arn = made["taskDefinitionArn"]
    return Made(arn, {"TaskDefinitionArn": arn}, lambda: api("ecs", "DeregisterTaskDefinition", TaskDefinition=arn))


@kind("AWS::ECS::Service")
def service(api, given, name):
    cluster = given.take("Cluster")
    made = api("ecs", "CreateService", Cluster=cluster, ServiceName=given.take("ServiceName", name),
               DesiredCount=given.take("DesiredCount", 1), Tags=given.tags("key", "value"), **given.rest())["service"]
    name, arn = made["serviceName"], made["serviceArn"]

    def change(now):
        """A count that the template says is sent with every change; without one it stays as it is."""
        for fixed in ("Cluster", "ServiceName", "Tags", "LaunchType", "SchedulingStrategy"):
            now.take(fixed, None)
        api("ecs", "UpdateService", Cluster=cluster, Service=name, **now.rest())
        return resource

    def undo():
        api("ecs", "DeleteService", Cluster=cluster, Service=name, Force=True)

    resource = Made(arn, {"Name": name, "ServiceArn": arn}, undo, change)
    return resource


@kind("AWS::ApplicationAutoScaling::ScalableTarget")
def scalable_target(api, given, name):
    given.pick("RoleARN")  # a service-linked role is meant, which moto has none of
    actions = given.take("ScheduledActions", [])
    target = given.pick("ServiceNamespace", "ResourceId", "ScalableDimension")
    api("application-autoscaling", "RegisterScalableTarget", **target, **given.rest())
    for action in actions:
        api("application-autoscaling", "PutScheduledAction", **target, **action)
    return Made("|".join((target["ResourceId"], target["ScalableDimension"], target["ServiceNamespace"])), {},
                lambda: api("application-autoscaling", "DeregisterScalableTarget", **target))


@kind("AWS::ApplicationAutoScaling::ScalingPolicy")
def scaling_policy(api, given, name):
    if "ScalingTargetId" in given.left:
        resource, dimension, space = given.take("ScalingTargetId").split("|")
        target = {"ResourceId": resource, "ScalableDimension": dimension, "ServiceNamespace": space}
    else:
        target = given.pick("ServiceNamespace", "ResourceId", "ScalableDimension")
    name = given.take("PolicyName", name)
    arn = api("application-autoscaling", "PutScalingPolicy", PolicyName=name, **target, **given.rest())["PolicyARN"]
    return Made(arn, {"Arn": arn}, lambda: api("application-autoscaling", "DeleteScalingPolicy", PolicyName=name, **target))


@kind("AWS::AutoScaling::AutoScalingGroup")
def scaling_group(api, given, name):
    name, tags = given.take("AutoScalingGroupName", name), given.take("Tags", [])
    subnets = given.take("VPCZoneIdentifier")
    if not isinstance(subnets, list):
        raise Failed("VPCZoneIdentifier has to be a list")
    api("autoscaling", "CreateAutoScalingGroup", AutoScalingGroupName=name, VPCZoneIdentifier=",".join(subnets), Tags=[
        {"ResourceType": "auto-scaling-group", "ResourceId": name, **tag} for tag in tags], **given.rest())
    return Made(name, {}, lambda: api("autoscaling", "DeleteAutoScalingGroup", AutoScalingGroupName=name, ForceDelete=True))
