"""What templates make together where parameters have given values: conditions decided, references followed from stack to stack.

`template` reads what is written, both ways of each condition; this reads one deployment of it, without making any. What is known
only when it is made (an id, an address) is a name: `child/network.yaml#AgentGroup`, or with an attribute behind a dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from .template import NO_VALUE, Template

PSEUDO = {"AWS::AccountId": "222222222222", "AWS::Region": "eu-west-2", "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com"}


class Estate:
    """Stacks of one account, with the parameters that all of them are given."""

    def __init__(self, templates: Iterable[Template], given: dict[str, Any]) -> None:
        self.templates = list(templates)
        self.given = given
        self.exports: dict[str, tuple[Template, Any]] = {}
        for template in self.templates:
            for output in (template.body.get("Outputs") or {}).values():
                if "Export" in output and self.holds(template, output.get("Condition")):
                    self.exports[self.value(template, output["Export"]["Name"])] = (template, output["Value"])

    def resources(self, *types: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and resolved properties of every resource of these types that is made."""
        for template, logical, resource in self.made():
            if resource["Type"] in types:
                yield f"{template.name}#{logical}", self.value(template, resource.get("Properties") or {})

    def made(self) -> Iterator[tuple[Template, str, dict[str, Any]]]:
        for template in self.templates:
            for logical, resource in template.resources.items():
                if self.holds(template, resource.get("Condition")):
                    yield template, logical, resource

    def parameter(self, template: Template, name: str) -> Any:
        definition = template.parameters[name]
        value = self.given.get(name, definition.get("Default"))
        if value is None:
            raise ValueError(f"{template.name} needs {name}, which has no default; give it")
        if definition["Type"].startswith(("CommaDelimitedList", "List<")) and isinstance(value, str):
            return value.split(",") if value else []
        return value

    def holds(self, template: Template, name: str | None) -> bool:
        return name is None or self._condition(template, template.body["Conditions"][name])

    def _condition(self, template: Template, value: dict[str, Any]) -> bool:
        ((function, inner),) = value.items()
        if function == "Condition":
            return self.holds(template, inner)
        if function == "Fn::Equals":
            one, other = (self.value(template, part) for part in inner)
            return str(one) == str(other)
        parts = [self._condition(template, part) for part in inner]
        return {"Fn::Not": lambda: not parts[0], "Fn::And": lambda: all(parts), "Fn::Or": lambda: any(parts)}[function]()

    def value(self, template: Template, value: Any) -> Any:
        """A value without functions; None where it is AWS::NoValue."""
        if isinstance(value, list):
            return [one for one in (self.value(template, part) for part in value) if one is not None]
        if not isinstance(value, dict):
            return value
        if value == NO_VALUE:
            return None
        if len(value) == 1:
            ((function, inner),) = value.items()
            if function == "Ref" or function.startswith("Fn::"):
                return self._function(template, function, inner)
        resolved = {key: self.value(template, part) for key, part in value.items()}
        return {key: part for key, part in resolved.items() if part is not None}

    def _function(self, template: Template, function: str, inner: Any) -> Any:
        if function == "Ref":
            if inner in PSEUDO:
                return PSEUDO[inner]
            return self.parameter(template, inner) if inner in template.parameters else f"{template.name}#{inner}"
        if function == "Fn::If":
            return self.value(template, inner[1] if self.holds(template, inner[0]) else inner[2])
        if function == "Fn::GetAtt":
            return f"{template.name}#{'.'.join(inner)}"
        if function == "Fn::ImportValue":
            name = self.value(template, inner)
            if name not in self.exports:
                raise ValueError(f"{template.name} imports {name}, which no stack of this estate exports")
            return self.value(*self.exports[name])
        if function == "Fn::Sub":
            return self._substituted(template, inner)
        if function == "Fn::Select":
            index, parts = int(inner[0]), self.value(template, inner[1])
            return parts[index] if isinstance(parts, list) and index < len(parts) else f"{index}. of {parts}"
        if function == "Fn::Split":
            return str(self.value(template, inner[1])).split(inner[0])
        if function == "Fn::Join":
            return inner[0].join(str(part) for part in self.value(template, inner[1]))
        if function in ("Fn::GetAZs", "Fn::Cidr"):
            return [f"{function[4:]} {number}" for number in range(8)]
        raise ValueError(f"{template.name}: {function} is not understood; teach it to checks/estate.py")

    def _substituted(self, template: Template, inner: Any) -> str:
        text, variables = (inner, {}) if isinstance(inner, str) else inner

        def known(match: re.Match[str]) -> str:
            name = match[1]
            if name in variables:
                return str(self.value(template, variables[name]))
            logical, _, attribute = name.partition(".")
            if attribute:
                return f"{template.name}#{name}"
            return str(self._function(template, "Ref", logical))

        return re.sub(r"\$\{([^}!]+)\}", known, text)
