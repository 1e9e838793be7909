"""Networks: VPC, subnets, routes, security groups, endpoints and endpoint services, load balancers, names."""

from .api import Failed
from .kinds import Made, kind

ZONE = "Z7K1066E3PUKB"  # of eu-west-2's endpoints, in the names that CloudFormation gives


def ec2(api, operation, **given):
    return api("ec2", operation, **given)


@kind("AWS::EC2::VPC")
def vpc(api, given, name):
    dns = given.pick("EnableDnsSupport", "EnableDnsHostnames")
    made = ec2(api, "CreateVpc", **given.specifications("vpc"), **given.pick("CidrBlock", "InstanceTenancy"))["Vpc"]
    id = made["VpcId"]
    for attribute, value in dns.items():
        ec2(api, "ModifyVpcAttribute", VpcId=id, **{attribute: {"Value": value}})

    def default_group():
        return ec2(api, "DescribeSecurityGroups", Filters=[
            {"Name": "vpc-id", "Values": [id]}, {"Name": "group-name", "Values": ["default"]}])["SecurityGroups"][0]["GroupId"]

    return Made(id, {"VpcId": id, "CidrBlock": made["CidrBlock"], "DefaultSecurityGroup": default_group},
                lambda: ec2(api, "DeleteVpc", VpcId=id))


@kind("AWS::EC2::Subnet")
def subnet(api, given, name):
    public = given.take("MapPublicIpOnLaunch", False)
    made = ec2(api, "CreateSubnet", **given.specifications("subnet"), **given.pick(
        "VpcId", "CidrBlock", "AvailabilityZone", "AvailabilityZoneId"))["Subnet"]
    id = made["SubnetId"]
    ec2(api, "ModifySubnetAttribute", SubnetId=id, MapPublicIpOnLaunch={"Value": public})
    return Made(id, {"SubnetId": id, "AvailabilityZone": made["AvailabilityZone"], "VpcId": made["VpcId"]},
                lambda: ec2(api, "DeleteSubnet", SubnetId=id))


@kind("AWS::EC2::RouteTable")
def route_table(api, given, name):
    id = ec2(api, "CreateRouteTable", **given.specifications("route-table"), **given.pick("VpcId"))["RouteTable"]["RouteTableId"]
    return Made(id, {"RouteTableId": id}, lambda: ec2(api, "DeleteRouteTable", RouteTableId=id))


@kind("AWS::EC2::Route")
def route(api, given, name):
    table, to = given.pick("RouteTableId"), given.pick("DestinationCidrBlock", "DestinationPrefixListId")
    ec2(api, "CreateRoute", **table, **to, **given.rest())
    return Made(name, {}, lambda: ec2(api, "DeleteRoute", **table, **to))


@kind("AWS::EC2::SubnetRouteTableAssociation")
def association(api, given, name):
    id = ec2(api, "AssociateRouteTable", **given.rest())["AssociationId"]
    return Made(id, {"Id": id}, lambda: ec2(api, "DisassociateRouteTable", AssociationId=id))


@kind("AWS::EC2::InternetGateway")
def internet_gateway(api, given, name):
    id = ec2(api, "CreateInternetGateway", **given.specifications("internet-gateway"))["InternetGateway"]["InternetGatewayId"]
    return Made(id, {"InternetGatewayId": id}, lambda: ec2(api, "DeleteInternetGateway", InternetGatewayId=id))


@kind("AWS::EC2::VPCGatewayAttachment")
def attachment(api, given, name):
    both = given.pick("VpcId", "InternetGatewayId")
    ec2(api, "AttachInternetGateway", **both)
    return Made(name, {}, lambda: ec2(api, "DetachInternetGateway", **both))


@kind("AWS::EC2::EIP")
def address(api, given, name):
    made = ec2(api, "AllocateAddress", **given.specifications("elastic-ip"), **given.pick("Domain"))
    return Made(made["PublicIp"], {"AllocationId": made["AllocationId"], "PublicIp": made["PublicIp"]},
                lambda: ec2(api, "ReleaseAddress", AllocationId=made["AllocationId"]))


@kind("AWS::EC2::NatGateway")
def nat_gateway(api, given, name):
    id = ec2(api, "CreateNatGateway", **given.specifications("natgateway"), **given.rest())["NatGateway"]["NatGatewayId"]
    return Made(id, {"NatGatewayId": id}, lambda: ec2(api, "DeleteNatGateway", NatGatewayId=id))


def permission(rule, ingress):
    """A template's rule as the API takes it."""
    rule = dict(rule)
    text = {"Description": rule.pop("Description")} if "Description" in rule else {}
    side = "Source" if ingress else "Destination"
    made = {"IpProtocol": rule.pop("IpProtocol")}
    made |= {name: rule.pop(name) for name in ("FromPort", "ToPort") if name in rule}
    if "CidrIp" in rule:
        made["IpRanges"] = [{"CidrIp": rule.pop("CidrIp"), **text}]
    elif f"{side}PrefixListId" in rule or "PrefixListId" in rule:
        made["PrefixListIds"] = [{"PrefixListId": rule.pop(f"{side}PrefixListId", None) or rule.pop("PrefixListId"), **text}]
    else:
        group = {"GroupId": rule.pop(f"{side}SecurityGroupId")}
        if f"{side}SecurityGroupOwnerId" in rule:
            group["UserId"] = rule.pop(f"{side}SecurityGroupOwnerId")
        made["UserIdGroupPairs"] = [{**group, **text}]
    return made | rule  # what is left has no place in a request, which says so


@kind("AWS::EC2::SecurityGroup")
def security_group(api, given, name):
    inward, outward = given.take("SecurityGroupIngress", []), given.take("SecurityGroupEgress", None)
    id = ec2(api, "CreateSecurityGroup", GroupName=given.take("GroupName", name), Description=given.take("GroupDescription"),
             **given.specifications("security-group"), **given.pick("VpcId"))["GroupId"]
    if inward:
        ec2(api, "AuthorizeSecurityGroupIngress", GroupId=id, IpPermissions=[permission(one, True) for one in inward])
    if outward is not None:  # the one that lets everything out is AWS's, where a template names none
        ec2(api, "RevokeSecurityGroupEgress", GroupId=id, IpPermissions=[
            {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
        # AWS's own idiom for "none at all" is a rule for one address of this machine.
        if outward:
            ec2(api, "AuthorizeSecurityGroupEgress", GroupId=id, IpPermissions=[permission(one, False) for one in outward])

    def undo():
        """Rules that name other groups go first: groups may name each other."""
        [found] = ec2(api, "DescribeSecurityGroups", GroupIds=[id])["SecurityGroups"]
        for operation, rules in (("Ingress", found["IpPermissions"]), ("Egress", found["IpPermissionsEgress"])):
            if rules:
                ec2(api, f"RevokeSecurityGroup{operation}", GroupId=id, IpPermissions=rules)
        ec2(api, "DeleteSecurityGroup", GroupId=id)

    return Made(id, {"GroupId": id}, undo)


@kind("AWS::EC2::SecurityGroupIngress")
def ingress(api, given, name):
    group, rule = given.take("GroupId"), permission(given.rest(), True)
    made = ec2(api, "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[rule])
    return Made(made["SecurityGroupRules"][0]["SecurityGroupRuleId"], {}, lambda: ec2(
        api, "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[rule]))


@kind("AWS::EC2::SecurityGroupEgress")
def egress(api, given, name):
    group, rule = given.take("GroupId"), permission(given.rest(), False)
    made = ec2(api, "AuthorizeSecurityGroupEgress", GroupId=group, IpPermissions=[rule])
    return Made(made["SecurityGroupRules"][0]["SecurityGroupRuleId"], {}, lambda: ec2(
        api, "RevokeSecurityGroupEgress", GroupId=group, IpPermissions=[rule]))


@kind("AWS::EC2::VPCEndpoint")
def endpoint(api, given, name):
    made = ec2(api, "CreateVpcEndpoint", **given.specifications("vpc-endpoint"), **given.pick(
        "VpcId", "ServiceName", "VpcEndpointType", "PolicyDocument", "SubnetIds", "SecurityGroupIds", "RouteTableIds",
        "PrivateDnsEnabled", "IpAddressType", "DnsOptions"))["VpcEndpoint"]
    id = made["VpcEndpointId"]
    names = [f"{entry['HostedZoneId']}:{entry['DnsName']}" for entry in made.get("DnsEntries", []) if "HostedZoneId" in entry]
    service = made["ServiceName"].split(".")[-1]
    if service.startswith("vpce-svc-"):  # moto makes up another kind of name than AWS's
        names = [f"{ZONE}:{id}-0a1b2c3d.{service}.{api.region}.vpce.amazonaws.com"]
    return Made(id, {"Id": id, "DnsEntries": names}, lambda: ec2(api, "DeleteVpcEndpoints", VpcEndpointIds=[id]))


@kind("AWS::EC2::VPCEndpointService")
def endpoint_service(api, given, name):
    given.pick("ContributorInsightsEnabled")
    made = ec2(api, "CreateVpcEndpointServiceConfiguration", **given.specifications("vpc-endpoint-service"), **given.pick(
        "NetworkLoadBalancerArns", "AcceptanceRequired", "PrivateDnsName"))["ServiceConfiguration"]
    id = made["ServiceId"]
    return Made(id, {"ServiceId": id}, lambda: ec2(api, "DeleteVpcEndpointServiceConfigurations", ServiceIds=[id]))


@kind("AWS::EC2::VPCEndpointServicePermissions")
def endpoint_service_permissions(api, given, name):
    id, allowed = given.take("ServiceId"), given.take("AllowedPrincipals")

    def say(**changes):
        ec2(api, "ModifyVpcEndpointServicePermissions", ServiceId=id, **{key: value for key, value in changes.items() if value})

    def change(now):
        if now.take("ServiceId") != id:
            raise Failed("another ServiceId would be another service")
        wanted = now.take("AllowedPrincipals")
        say(AddAllowedPrincipals=[one for one in wanted if one not in allowed],
            RemoveAllowedPrincipals=[one for one in allowed if one not in wanted])
        allowed[:] = wanted
        return made

    say(AddAllowedPrincipals=allowed)
    made = Made(name, {}, lambda: say(RemoveAllowedPrincipals=allowed), change)
    return made


@kind("AWS::EC2::FlowLog")
def flow_log(api, given, name):
    resource = given.take("ResourceId")
    made = ec2(api, "CreateFlowLogs", ResourceIds=[resource], **given.specifications("vpc-flow-log"), **given.rest())
    [id] = made["FlowLogIds"]
    return Made(id, {"Id": id}, lambda: ec2(api, "DeleteFlowLogs", FlowLogIds=[id]))


@kind("AWS::EC2::Volume")
def volume(api, given, name):
    id = ec2(api, "CreateVolume", **given.specifications("volume"), **given.rest())["VolumeId"]
    return Made(id, {"VolumeId": id}, lambda: ec2(api, "DeleteVolume", VolumeId=id))


@kind("AWS::EC2::LaunchTemplate")
def launch_template(api, given, name):
    made = ec2(api, "CreateLaunchTemplate", LaunchTemplateName=given.take("LaunchTemplateName", name), **given.pick(
        "LaunchTemplateData", "TagSpecifications", "VersionDescription"))["LaunchTemplate"]
    id = made["LaunchTemplateId"]
    return Made(id, {"LaunchTemplateId": id, "LatestVersionNumber": "1", "DefaultVersionNumber": "1"},
                lambda: ec2(api, "DeleteLaunchTemplate", LaunchTemplateId=id))


@kind("AWS::ElasticLoadBalancingV2::LoadBalancer")
def load_balancer(api, given, name):
    kept, enforced = given.take("LoadBalancerAttributes", []), given.take("EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic", None)
    groups = given.left.get("SecurityGroups")
    made = api("elbv2", "CreateLoadBalancer", Name=given.take("Name", short(name)), Tags=given.tags() or None, **given.pick(
        "Type", "Scheme", "Subnets", "SubnetMappings", "SecurityGroups", "IpAddressType"))["LoadBalancers"][0]
    arn = made["LoadBalancerArn"]
    if kept:
        api("elbv2", "ModifyLoadBalancerAttributes", LoadBalancerArn=arn, Attributes=kept)
    if enforced:
        api("elbv2", "SetSecurityGroups", LoadBalancerArn=arn, SecurityGroups=groups,
            EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic=enforced)
    full = arn.split(":loadbalancer/")[1]
    return Made(arn, {"LoadBalancerArn": arn, "DNSName": made["DNSName"], "LoadBalancerFullName": full,
                      "CanonicalHostedZoneID": made.get("CanonicalHostedZoneId", "Z00000000"), "LoadBalancerName": made["LoadBalancerName"]},
                lambda: api("elbv2", "DeleteLoadBalancer", LoadBalancerArn=arn))


def short(name):
    """A load balancer's name has 32 characters at most, and does not end in a hyphen."""
    return f"{name[:18].rstrip('-')}-{name[-12:]}"


@kind("AWS::ElasticLoadBalancingV2::TargetGroup")
def target_group(api, given, name):
    kept, targets = given.take("TargetGroupAttributes", []), given.take("Targets", [])
    made = api("elbv2", "CreateTargetGroup", Name=given.take("Name", short(name)), Tags=given.tags() or None,
               **given.rest())["TargetGroups"][0]
    arn = made["TargetGroupArn"]
    if kept:
        api("elbv2", "ModifyTargetGroupAttributes", TargetGroupArn=arn, Attributes=kept)
    if targets:
        api("elbv2", "RegisterTargets", TargetGroupArn=arn, Targets=targets)
    return Made(arn, {"TargetGroupArn": arn, "TargetGroupName": made["TargetGroupName"],
                      "TargetGroupFullName": arn.split(":")[-1]},
                lambda: api("elbv2", "DeleteTargetGroup", TargetGroupArn=arn))


@kind("AWS::ElasticLoadBalancingV2::Listener")
def listener(api, given, name):
    kept = given.take("ListenerAttributes", [])
    arn = api("elbv2", "CreateListener", **given.rest())["Listeners"][0]["ListenerArn"]
    if kept:
        api("elbv2", "ModifyListenerAttributes", ListenerArn=arn, Attributes=kept)
    return Made(arn, {"ListenerArn": arn}, lambda: api("elbv2", "DeleteListener", ListenerArn=arn))


@kind("AWS::ServiceDiscovery::PrivateDnsNamespace", "AWS::ServiceDiscovery::HttpNamespace")
def namespace(api, given, name):
    operation = "CreatePrivateDnsNamespace" if "Vpc" in given.left else "CreateHttpNamespace"
    made = api("servicediscovery", operation, Tags=given.tags(), **given.rest())["OperationId"]
    id = api("servicediscovery", "GetOperation", OperationId=made)["Operation"]["Targets"]["NAMESPACE"]
    arn = api("servicediscovery", "GetNamespace", Id=id)["Namespace"]["Arn"]
    return Made(id, {"Id": id, "Arn": arn}, lambda: api("servicediscovery", "DeleteNamespace", Id=id))


@kind("AWS::ServiceDiscovery::Service")
def discovered(api, given, name):
    made = api("servicediscovery", "CreateService", Tags=given.tags(), **given.rest())["Service"]
    return Made(made["Id"], {"Id": made["Id"], "Arn": made["Arn"], "Name": made["Name"]},
                lambda: api("servicediscovery", "DeleteService", Id=made["Id"]))
