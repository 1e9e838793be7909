"""A template as data: its short forms made long, and every policy statement in it with the place where it stands.

The checks read the files themselves and not what a deployment would make of them, so that both branches of a condition are
looked at, whatever the parameters are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent.parent
FOLDER = HERE / "cloudformation"
NO_VALUE = {"Ref": "AWS::NoValue"}


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def _long(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix in ("Ref", "Condition"):
        return {suffix: value}
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _long)
# 2012-10-17 is a version and no day.
Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))


@dataclass(frozen=True)
class Statement:
    """One statement of a policy."""

    template: Template
    resource: str
    kind: str
    """identity, trust, key, endpoint or resource: whose policy it is."""
    body: dict[str, Any]
    roles: tuple[str, ...] = ()
    """Logical ids of the roles of this template that an identity policy is of."""

    @property
    def sid(self) -> str:
        return str(self.body.get("Sid", ""))

    @property
    def place(self) -> str:
        return f"{self.template.name}: {self.resource}, statement {self.sid or '(without Sid)'}"

    def reason(self, why: str) -> str:
        """What the resource's metadata says of this statement."""
        metadata = self.template.resources[self.resource].get("Metadata") or {}
        return str(((metadata.get("sfdata") or {}).get(why) or {}).get(self.sid, ""))


@dataclass(frozen=True)
class Template:
    """A template that was read."""

    name: str
    body: dict[str, Any] = field(repr=False)

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        return self.body.get("Resources") or {}

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        return self.body.get("Parameters") or {}

    def statements(self) -> Iterator[Statement]:
        for name, resource in self.resources.items():
            for path, document in _documents(resource.get("Properties") or {}):
                kind = _kind(resource["Type"], path)
                roles = tuple(_roles(name, resource)) if kind == "identity" else ()
                for body in branches(as_list(document["Statement"])):
                    yield Statement(self, name, kind, body, roles)


def read(text: str, name: str) -> Template:
    return Template(name, yaml.load(text, Loader))


def load(folder: Path = FOLDER) -> list[Template]:
    """All templates below `folder`, by their paths."""
    paths = sorted(folder.rglob("*.yaml"))
    if not paths:
        raise SystemExit(f"there are no templates (*.yaml) below {folder}")
    return [read(path.read_text(), str(path.relative_to(folder))) for path in paths]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def branches(items: list[Any]) -> Iterator[Any]:
    """The items of a list, both ways of each condition, without what stands for nothing."""
    for item in items:
        if isinstance(item, dict) and "Fn::If" in item:
            for branch in item["Fn::If"][1:]:
                yield from branches(as_list(branch))
        elif item != NO_VALUE:
            yield item


def possible(value: Any) -> set[str]:
    """Every text that a value can be; what is only known when it is deployed stands in braces."""
    if isinstance(value, (str, int)):
        return {str(value)}
    if isinstance(value, dict) and len(value) == 1:
        (function, inner), *_ = value.items()
        if function == "Fn::If":
            return {text for branch in inner[1:] if branch != NO_VALUE for text in possible(branch)}
        if function == "Fn::Sub":
            return substituted(inner)
        if function == "Fn::GetAtt":
            return {"{" + ".".join(inner) + "}"}
        if function == "Ref":
            return {"{" + inner + "}"}
        return {"{" + function.removeprefix("Fn::") + "}"}
    raise ValueError(f"{value!r} is not understood; write it as a text, !Sub, !Ref, !GetAtt, !ImportValue or !If of these")


def substituted(inner: Any) -> set[str]:
    text, variables = (inner, {}) if isinstance(inner, str) else inner
    choices = {name: possible(value) for name, value in variables.items()}
    texts = set()
    for chosen in product(*choices.values()):
        values = dict(zip(choices, chosen))
        texts.add(re.sub(r"\$\{([^}]+)\}", lambda m: values.get(m[1], "{" + m[1] + "}"), text))
    return texts


def _documents(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if isinstance(value, dict):
        if "Statement" in value:
            yield path, value
            return
        for key, inner in value.items():
            yield from _documents(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from _documents(inner, path)


def _kind(resource_type: str, path: tuple[str, ...]) -> str:
    if "AssumeRolePolicyDocument" in path:
        return "trust"
    if resource_type.startswith("AWS::IAM::"):
        return "identity"
    if resource_type == "AWS::EC2::VPCEndpoint":
        return "endpoint"
    return "key" if resource_type == "AWS::KMS::Key" else "resource"


def _roles(name: str, resource: dict[str, Any]) -> Iterator[str]:
    if resource["Type"] == "AWS::IAM::Role":
        yield name
        return
    properties = resource.get("Properties") or {}
    for role in (*as_list(properties.get("Roles", [])), properties.get("RoleName")):
        if isinstance(role, dict) and "Ref" in role:
            yield role["Ref"]
