"""Who can talk to whom, on which port and by which way, reckoned from the templates; and whether that is what was meant.

reach.txt has every path with its reason. A path that is not there, and one of it that is gone, fails: so a rule, an endpoint, a
load balancer, a route or a task in another group is seen by whoever reads the change. A path between two security groups is
one where the one lets it out and the other lets it in; a rule without its counterpart is told as well.

    python -m checks.reach            compare
    python -m checks.reach --table    print all paths with their reasons
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .estate import Estate
from .template import Template, as_list, load

KNOWN = Path(__file__).with_name("reach.txt")
# Shorter than this nothing is explained.
REASON = 10
NOBODY = "127.0.0.1/32"
WORDS = {"0.0.0.0/0": "everywhere", "::/0": "everywhere"}
OUT = ("AWS::EC2::InternetGateway", "AWS::EC2::EgressOnlyInternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::VPCPeeringConnection",
       "AWS::EC2::TransitGatewayAttachment", "AWS::EC2::TransitGatewayVpcAttachment", "AWS::EC2::VPNGateway",
       "AWS::EC2::VPNConnection", "AWS::EC2::EIP", "AWS::EC2::CarrierGateway", "AWS::NetworkManager::VpcAttachment")

CHILD = ["network", "endpoints", "storage", "database", "dagster-roles", "dagster", "role", "agent"]
DOORS = [*CHILD[:5], "balancer", "dagster", "frontend", "role", "agent"]
LA = {"LaName": "camden", "CoreAccount": "111111111111", "TrustPin": "a/b/c", "HubService": "HubService", "S3PrefixList": "S3"}
SHARED = {"Network": "shared", "SharedVpcId": "SharedVpcId", "SharedSubnetIds": "SubnetA,SubnetB", "SharedVpcCidr": "SharedVpcCidr",
          "HubAddress": "HubAddress"}
ADOPTED = {"Storage": "adopted", "DataStore": "in", "Workspace": "between", "Shared": "out", "AdoptedWebserverGroup": "AdoptedWebserverGroup"}
OPEN = {"LoadBalancer": "yes", "Frontend": "yes", "ClientCidr": "ClientCidr", "CertificateArn": "certificate"}
REGION = {"OrganizationId": "o-a1b2c3d4e5", "OperatorCidr": "OperatorCidr", "AllowedPrincipals": "AllowedPrincipals", "S3PrefixList": "S3",
          "HubImage": "image", "TrustDomain": "sfdata.example", "SharedWith": "SharedWith", "Maintenance": "on",
          "AlarmEmail": "a@example.org", "DispatchKeyArn": "key",
          "SharedSubnetCidrs": "SharedSubnetA,SharedSubnetB"}
# What is looked at: an LA with a network of its own, with a shared one, with all doors open, with an adopted platform; the core, without
# and with shared subnets.
ESTATES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "own": ([f"child/{name}.yaml" for name in CHILD], LA),
    "shared": ([f"child/{name}.yaml" for name in CHILD if name != "endpoints"], LA | SHARED),
    "doors": ([f"child/{name}.yaml" for name in DOORS], LA | OPEN),
    "adopted": ([f"child/{name}.yaml" for name in ("network", "role", "agent")], LA | SHARED | ADOPTED),
    "core": ([f"core/{name}.yaml" for name in ("ecr", "network", "store", "hub")], REGION),
    "core-shared": ([f"core/{name}.yaml" for name in ("ecr", "network", "store", "hub", "shared")], REGION),
}


class Way(NamedTuple):
    """From whom to whom, and by what: a port, or the way."""

    source: str
    target: str
    by: str


class Rule(NamedTuple):
    """One rule of a security group, with the other side as a group's name or in words."""

    group: str
    peer: str
    port: str


def short(name: str) -> str:
    """A resource by its logical id; the service of a template that has one alone, by the template's name as well."""
    template, _, logical = str(name).rpartition("#")
    return f"{template.rpartition('/')[2].removesuffix('.yaml')}'s {logical}" if logical == "Service" else logical


def port(rule: dict[str, Any]) -> str:
    protocol = str(rule.get("IpProtocol"))
    if protocol == "-1":
        return "every port"
    first, last = rule.get("FromPort"), rule.get("ToPort")
    return f"{protocol} {first}" if first == last else f"{protocol} {first}-{last}"


def peers(rule: dict[str, Any], *keys: str) -> Iterator[str]:
    found = [rule[key] for key in (*keys, "CidrIp", "CidrIpv6") if rule.get(key)]
    for one in found:
        if one != NOBODY:
            yield WORDS.get(one, one)


def groups(estate: Estate) -> tuple[set[Rule], set[Rule], set[str]]:
    """What is let out, what is let in, and the groups that there are."""
    out, into, known = set(), set(), set()

    def add(rules: set[Rule], group: str, rule: dict[str, Any], *keys: str) -> None:
        rules |= {Rule(group, peer, port(rule)) for peer in peers(rule, *keys)}

    sources = ("SourceSecurityGroupId", "SourcePrefixListId")
    targets = ("DestinationSecurityGroupId", "DestinationPrefixListId")
    for name, properties in estate.resources("AWS::EC2::SecurityGroup"):
        known.add(name)
        for rule in properties.get("SecurityGroupIngress", []):
            add(into, name, rule, *sources)
        rules = properties.get("SecurityGroupEgress", [])
        for rule in rules:
            add(out, name, rule, *targets)
        if not rules:
            out.add(Rule(name, "everywhere", "every port"))
    for _, rule in estate.resources("AWS::EC2::SecurityGroupIngress"):
        add(into, group_id(rule["GroupId"]), rule, *sources)
    for _, rule in estate.resources("AWS::EC2::SecurityGroupEgress"):
        add(out, group_id(rule["GroupId"]), rule, *targets)
    return plain(out), plain(into), known


def plain(rules: set[Rule]) -> set[Rule]:
    return {Rule(group_id(one.group), group_id(one.peer), one.port) for one in rules}


def group_id(name: str) -> str:
    return str(name).removesuffix(".GroupId")


def of_rules(estate: Estate, problems: list[str]) -> Iterator[Way]:
    out, into, known = groups(estate)
    for rule in out:
        if rule.peer not in known:
            yield Way(short(rule.group), rule.peer, rule.port)
        elif Rule(rule.peer, rule.group, rule.port) in into:
            yield Way(short(rule.group), short(rule.peer), rule.port)
        else:
            problems.append(f"{rule.group} lets out to {rule.peer}, {rule.port}, which does not let it in; mend or drop the rule")
    for rule in into:
        if rule.peer not in known:
            yield Way(rule.peer, short(rule.group), rule.port)
        elif Rule(rule.peer, rule.group, rule.port) not in out:
            problems.append(f"{rule.group} lets in from {rule.peer}, {rule.port}, which does not let it out; mend or drop the rule")


def of_endpoints(estate: Estate) -> Iterator[Way]:
    for name, properties in estate.resources("AWS::EC2::VPCEndpoint"):
        service = str(properties["ServiceName"]).removeprefix("com.amazonaws.eu-west-2.")
        if properties.get("VpcEndpointType", "Gateway") == "Gateway":
            for table in as_list(properties.get("RouteTableIds", [])):
                yield Way(short(table), f"AWS {service}", "gateway endpoint")
        else:
            for group in properties.get("SecurityGroupIds") or ["the VPC's default group"]:
                yield Way(short(group), f"AWS {service}" if service != "HubService" else "the hub", "interface endpoint")
    for name, properties in estate.resources("AWS::EC2::VPCEndpointService"):
        allowed = [one for _, permission in estate.resources("AWS::EC2::VPCEndpointServicePermissions")
                   if permission["ServiceId"].partition(".")[0] == name for one in permission["AllowedPrincipals"]]
        for balancer in properties["NetworkLoadBalancerArns"]:
            for who in allowed:
                way = "PrivateLink" + (", each accepted by a person" if properties.get("AcceptanceRequired") else "")
                yield Way(who, short(balancer), way)


def of_balancers(estate: Estate) -> Iterator[Way]:
    for name, properties in estate.resources("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        if properties.get("Scheme") != "internal":
            yield Way("everywhere", short(name), "internet-facing")
        for group in properties.get("SecurityGroups") or ["the VPC's default group"]:
            yield Way(short(name), short(group), "is in the group")
    targets = dict(estate.resources("AWS::ElasticLoadBalancingV2::TargetGroup"))
    for _, properties in estate.resources("AWS::ElasticLoadBalancingV2::Listener"):
        for action in properties["DefaultActions"]:
            target = action.get("TargetGroupArn", action["Type"])
            to = f"{short(target)}, port {targets[target]['Port']}" if target in targets else str(target)
            yield Way(short(properties["LoadBalancerArn"]), to, f"listener {properties['Port']} {properties['Protocol']}")


def of_ways_out(estate: Estate) -> Iterator[Way]:
    for template, logical, resource in estate.made():
        if resource["Type"] in OUT:
            yield Way("the network", "everywhere", f"{resource['Type']} {logical}")
    for name, route in estate.resources("AWS::EC2::Route"):
        way = next((f"{key} {short(route[key])}" for key in sorted(route) if key.endswith("Id") and key != "RouteTableId"), name)
        to = route.get("DestinationCidrBlock") or route.get("DestinationIpv6CidrBlock") or route.get("DestinationPrefixListId", "?")
        yield Way(short(route["RouteTableId"]), WORDS.get(to, to), way)
    for name, share in estate.resources("AWS::RAM::ResourceShare"):
        for who in share.get("Principals", []):
            for what in share.get("ResourceArns", []):
                yield Way(who, short(what), "puts its tasks there (RAM)")
    for name, subnet in estate.resources("AWS::EC2::Subnet"):
        if str(subnet.get("MapPublicIpOnLaunch", False)).lower() == "true":
            yield Way("everywhere", short(name), "public addresses")


def of_members(estate: Estate) -> Iterator[Way]:
    """What is in which group: a group's rules are those of whatever is in it."""
    for name, service in estate.resources("AWS::ECS::Service"):
        network = (service.get("NetworkConfiguration") or {}).get("AwsvpcConfiguration") or {}
        if network.get("AssignPublicIp") != "DISABLED":
            yield Way("everywhere", short(name), "public address")
        yield from member(name, network.get("SecurityGroups"))
    for name, database in estate.resources("AWS::RDS::DBCluster", "AWS::RDS::DBInstance"):
        if str(database.get("PubliclyAccessible", False)).lower() == "true":
            yield Way("everywhere", short(name), "public address")
        if "DBClusterIdentifier" not in database or "DatabaseName" in database:
            yield from member(name, database.get("VpcSecurityGroupIds") or database.get("VPCSecurityGroups"))
    for name, target in estate.resources("AWS::EFS::MountTarget"):
        yield from member(name, target.get("SecurityGroups"))


def member(name: str, groups_: list[str] | None) -> Iterator[Way]:
    for group in groups_ or ["the VPC's default group"]:
        yield Way(short(name), short(group_id(group)), "is in the group")


def paths(estate: Estate) -> tuple[set[Way], list[str]]:
    problems: list[str] = []
    found = {*of_rules(estate, problems), *of_endpoints(estate), *of_balancers(estate), *of_ways_out(estate), *of_members(estate)}
    return found, problems


def estates(templates: list[Template]) -> dict[str, Estate]:
    by_name = {template.name: template for template in templates}
    return {name: Estate([by_name[one] for one in stacks], given) for name, (stacks, given) in ESTATES.items()}


def meant(text: str) -> dict[tuple[str, Way], str]:
    """reach.txt: ESTATES | FROM | TO | BY | REASON."""
    found: dict[tuple[str, Way], str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 5:
            raise ValueError(f"reach.txt, line {number}: write ESTATES | FROM | TO | BY | REASON")
        for estate in parts[0].split():
            found[(estate, Way(*parts[1:4]))] = parts[4]
    return found


def findings(all_of: dict[str, Estate], known: dict[tuple[str, Way], str]) -> list[str]:
    found, there = [], set()
    for name, estate in all_of.items():
        now, problems = paths(estate)
        there |= {(name, path) for path in now}
        found += [f"{name}: {problem}" for problem in problems]
    for name, path in sorted(there - known.keys()):
        found.append(f"{name}: a new path, {path.source} -> {path.target}, {path.by}; drop it, or give its reason in checks/reach.txt")
    for name, path in sorted(known.keys() - there):
        found.append(f"{name}: a path is gone, {path.source} -> {path.target}, {path.by}; take it out of checks/reach.txt if that is meant")
    for (name, path), reason in sorted(known.items()):
        if len(reason) < REASON:
            found.append(f"{name}: {path.source} -> {path.target}, {path.by} has no reason in checks/reach.txt; say what it is for")
    return found


def table(known: dict[tuple[str, Way], str]) -> Iterator[str]:
    for estate in dict.fromkeys(name for name, _ in known):
        rows = sorted((path, reason) for (name, path), reason in known.items() if name == estate)
        widths = [max(len(row[0][column]) for row in rows) for column in range(3)]
        yield f"\n{estate}"
        for path, reason in rows:
            yield "  ".join(text.ljust(width) for text, width in zip(path, widths)) + f"  {reason}"


def main(arguments: list[str]) -> int:
    known = meant(KNOWN.read_text())
    all_of = estates(load())
    found = findings(all_of, known)
    if "--table" in arguments:
        print("\n".join(table(known)))
    for line in found:
        print(line, file=sys.stderr)
    print(f"{sum(len(paths(estate)[0]) for estate in all_of.values())} paths in {len(all_of)} estates, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
