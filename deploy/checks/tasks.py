"""What every task, service and security group in the templates has to be, which neither cfn-lint nor checkov asks of them.

A container whose root file system can be written says why in its task's `Metadata.sfdata.writable`, by the container's name; one
that runs as whom its image says in `Metadata.sfdata.user`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from .rules import REASON
from .template import Template, as_list, branches, load

SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|PRIVATE_KEY|ACCESS_KEY", re.IGNORECASE)
ANYWHERE = ("0.0.0.0/0", "::/0")


def either(value: Any) -> list[Any]:
    """What a value is, both ways of each condition."""
    return list(branches([value])) if value is not None else [None]


def task(template: Template, name: str) -> Iterator[str]:
    resource = template.resources[name]
    properties = resource["Properties"]
    if properties.get("NetworkMode") != "awsvpc":
        yield "is not in the network mode awsvpc, so that no security group holds for it"
    for volume in branches(as_list(properties.get("Volumes", []))):
        disk = volume.get("EFSVolumeConfiguration")
        if disk and disk.get("TransitEncryption") != "ENABLED":
            yield f"mounts {volume['Name']} without TransitEncryption ENABLED"
        if disk and (disk.get("AuthorizationConfig") or {}).get("IAM") != "ENABLED":
            yield f"mounts {volume['Name']} without IAM ENABLED, so that no role is asked for"
    said = (resource.get("Metadata") or {}).get("sfdata") or {}
    containers = {one["Name"]: one for one in branches(as_list(properties.get("ContainerDefinitions", [])))}
    for container in containers:
        why = {key: reasons.get(container, "") for key, reasons in said.items()}
        yield from (f"container {container} {line}" for line in contained(containers[container], why))
    for stranger in sorted({container for reasons in said.values() for container in reasons} - containers.keys()):
        yield f"explains {stranger}, which is no container of it; take it out"


def contained(container: dict[str, Any], why: dict[str, str]) -> Iterator[str]:
    if either(container.get("ReadonlyRootFilesystem")) != [True] and len(why.get("writable", "")) < REASON:
        yield "can write its root file system; say ReadonlyRootFilesystem: true, or why not in Metadata.sfdata.writable"
    for user in either(container.get("User")):
        root = user is None or str(user).partition(":")[0] in ("", "0", "root")
        if root and len(why.get("user", "")) < REASON:
            yield "runs as root, or as whom its image says; name a User, or say why not in Metadata.sfdata.user"
    if any(privileged is True for privileged in either(container.get("Privileged"))):
        yield "is privileged"
    if "LogConfiguration" not in container:
        yield "keeps no log"
    for variable in branches(as_list(container.get("Environment", []))):
        if SECRET.search(str(variable["Name"])):
            yield f"has {variable['Name']} as a plain variable, which whoever may describe the task reads; make it one of Secrets"


def service(template: Template, name: str) -> Iterator[str]:
    properties = template.resources[name]["Properties"]
    network = (properties.get("NetworkConfiguration") or {}).get("AwsvpcConfiguration") or {}
    if either(network.get("AssignPublicIp")) != ["DISABLED"]:
        yield "may get a public address; say AssignPublicIp: DISABLED"
    deployment = properties.get("DeploymentConfiguration") or {}
    breaker = deployment.get("DeploymentCircuitBreaker") or {}
    if breaker.get("Enable") is not True or breaker.get("Rollback") is not True:
        yield "does not go back by itself where a deployment fails; enable the circuit breaker, with Rollback"
    reference = properties.get("TaskDefinition")
    definition = template.resources.get(reference.get("Ref", ""), {}) if isinstance(reference, dict) else {}
    volumes = branches(as_list((definition.get("Properties") or {}).get("Volumes", [])))
    limits = (deployment.get("MinimumHealthyPercent"), deployment.get("MaximumPercent"))
    if any("EFSVolumeConfiguration" in volume for volume in volumes) and limits != (0, 100):
        yield "has a task with a file system of its own, of which two may run at once: minimum 0, maximum 100"


def group(template: Template, name: str) -> Iterator[str]:
    properties = template.resources[name]["Properties"]
    if not properties.get("SecurityGroupEgress"):
        yield "says nothing of what goes out, so that everything may; name it, or 127.0.0.1/32 for nothing"
    for rule in branches(as_list(properties.get("SecurityGroupIngress", []))):
        yield from inward(rule)
    for rule in branches(as_list(properties.get("SecurityGroupEgress", []))):
        yield from described(rule)


def inward(rule: dict[str, Any]) -> Iterator[str]:
    yield from described(rule)
    for source in (*either(rule.get("CidrIp")), *either(rule.get("CidrIpv6"))):
        if source in ANYWHERE:
            yield f"lets in {source}: everybody who has a way to it"
    if str(rule.get("IpProtocol")) == "-1":
        yield "lets in every protocol; name the port"


def described(rule: dict[str, Any]) -> Iterator[str]:
    if not rule.get("Description"):
        yield "has a rule that does not say what it is for (Description)"


RULES = {
    "AWS::ECS::TaskDefinition": task,
    "AWS::ECS::Service": service,
    "AWS::EC2::SecurityGroup": group,
    "AWS::EC2::SecurityGroupIngress": lambda template, name: inward(template.resources[name]["Properties"]),
    "AWS::EC2::SecurityGroupEgress": lambda template, name: described(template.resources[name]["Properties"]),
}


def findings(templates: list[Template]) -> list[str]:
    return [
        f"{template.name}: {name} {line}"
        for template in templates
        for name, resource in template.resources.items()
        if resource["Type"] in RULES
        for line in RULES[resource["Type"]](template, name)
    ]


def main() -> int:
    templates = load()
    found = findings(templates)
    for line in found:
        print(line, file=sys.stderr)
    looked = sum(1 for template in templates for one in template.resources.values() if one["Type"] in RULES)
    print(f"{looked} tasks, services and security groups, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
