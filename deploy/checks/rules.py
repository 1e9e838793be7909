"""Rules over every policy, parameter and suppression in the templates.

A statement that is wide says why in its resource's own metadata, by its Sid, so that the reason is read where the statement is:
`Metadata: { sfdata: { wide: { SID: why } } }` for a resource of "*", `public` in its place for a principal of "*".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .template import Statement, Template, as_list, branches, load, possible

# Managed policies of AWS that templates may name: a service's own role, whose needs change with the service.
MANAGED = ("service-role/AWSBackupServiceRolePolicyForBackup", "service-role/AmazonECSTaskExecutionRolePolicy")
# What has to be said of who calls where a principal is "*".
CALLERS = ("aws:PrincipalOrgID", "aws:PrincipalAccount", "aws:PrincipalArn", "aws:SourceAccount", "aws:SourceArn")
# Shorter than this nothing is explained.
REASON = 20


def texts(value: Any) -> Iterator[str]:
    """Every text within a value, joined and substituted ones by their pieces."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    else:
        yield str(value)


def actions(statement: Statement) -> Iterator[str]:
    if statement.body.get("Effect") != "Allow":
        return
    for action in branches(as_list(statement.body.get("Action", []))):
        service, _, name = str(action).partition(":")
        if service == "*":
            yield "allows the action *; name the actions"
        elif name == "*" and statement.kind == "identity":
            yield f"allows {action} to a role; name the actions"
        elif name == "*" and statement.kind in ("endpoint", "resource") and not bounded(statement):
            yield f"allows {action} without saying whose identities; add a condition on one of {', '.join(CALLERS)}"


def inverted(statement: Statement) -> Iterator[str]:
    if statement.body.get("Effect") == "Allow":
        for key in ("NotAction", "NotResource", "NotPrincipal"):
            if key in statement.body:
                yield f"allows by {key}, which lets in what nobody thought of"


def wide(statement: Statement) -> Iterator[str]:
    if statement.kind in ("key", "trust") or statement.body.get("Effect") != "Allow":
        return  # in a key's policy "*" is the key itself
    everything = "*" in branches(as_list(statement.body.get("Resource", [])))
    if everything and not statement.body.get("Condition") and len(statement.reason("wide")) < REASON:
        yield (
            'has the resource "*" without a condition; narrow it, or say why it can\'t be in the resource\'s '
            f"Metadata.sfdata.wide.{statement.sid or 'SID'}"
        )


def public(statement: Statement) -> Iterator[str]:
    if statement.body.get("Effect") != "Allow":
        return
    principals = list(branches(as_list(statement.body.get("Principal", []))))
    anybody = "*" in principals or any(isinstance(one, dict) and "*" in as_list(one.get("AWS")) for one in principals)
    if anybody and not bounded(statement) and len(statement.reason("public")) < REASON:
        yield (
            f'lets in the principal "*" without a condition on one of {", ".join(CALLERS)}; add one, or say why in the '
            f"resource's Metadata.sfdata.public.{statement.sid or 'SID'}"
        )


def bounded(statement: Statement) -> bool:
    condition = statement.body.get("Condition") or {}
    return any(
        key in CALLERS
        for operator, tests in condition.items()
        if "Not" not in operator and not operator.endswith("IfExists")
        for key in tests
    )


STATEMENTS: list[Callable[[Statement], Iterator[str]]] = [actions, inverted, wide, public]


def reasons(template: Template) -> Iterator[str]:
    """Reasons of statements that are not there, and suppressions without a reason."""
    sids: dict[str, set[str]] = {}
    for statement in template.statements():
        sids.setdefault(statement.resource, set()).add(statement.sid)
    for name, resource in template.resources.items():
        metadata = resource.get("Metadata") or {}
        for why, said in (metadata.get("sfdata") or {}).items():
            if why in ("template", "user", "writable"):
                continue  # looked at where they are used
            if why not in ("wide", "public"):
                yield f"{template.name}: {name} has Metadata.sfdata.{why}; wide, public, user, writable and template are known"
                continue
            for sid in set(said) - sids.get(name, set()):
                yield f"{template.name}: {name} explains the statement {sid}, which is not there; take it out"
        for skip in (metadata.get("checkov") or {}).get("skip") or []:
            if len(str(skip.get("comment", ""))) < REASON:
                yield f"{template.name}: {name} suppresses {skip.get('id')} without a reason; write it as its comment"


def managed(template: Template) -> Iterator[str]:
    for name, resource in template.resources.items():
        properties = resource.get("Properties") or {}
        for text in texts([properties.get("ManagedPolicyArns", []), properties.get("PermissionsBoundary", [])]):
            policy = text.partition(":iam::aws:policy/")[2]
            if policy and policy not in MANAGED:
                yield f"{template.name}: {name} has AWS's policy {policy}; write its statements out, as small as they can be"


def parameters(template: Template) -> Iterator[str]:
    for name, parameter in template.parameters.items():
        place = f"{template.name}: parameter {name}"
        if len(parameter.get("Description", "")) < REASON:
            yield f"{place} is not described"
        if parameter["Type"] == "String" and not ({"AllowedPattern", "AllowedValues"} & parameter.keys() or free(parameter)):
            yield f"{place} takes any text; give it an AllowedPattern or AllowedValues, or a MaxLength where any text is right"
        if parameter.get("AllowedPattern") and not parameter.get("ConstraintDescription") and "Default" not in parameter:
            yield f"{place} has a pattern and no ConstraintDescription, so that a slip is answered with the pattern alone"
    if not template.body.get("Description"):
        yield f"{template.name} is not described"


def free(parameter: dict[str, Any]) -> bool:
    """More of a configuration file, or an image's command: whatever is wrong there is told by who reads it."""
    return parameter.get("MaxLength") is not None


def joined(templates: list[Template]) -> Iterator[str]:
    """What templates take from each other: exports, and the parameters that a stack set hands on."""
    exports: dict[str, str] = {}
    for template in templates:
        for output in (template.body.get("Outputs") or {}).values():
            for name in named(template, output["Export"]["Name"]) if "Export" in output else ():
                if name in exports:
                    yield f"{template.name} exports {name}, as {exports[name]} does; one account can't have both"
                exports[name] = template.name
    uses: dict[str, set[str]] = {template.name: set() for template in templates}
    for template in templates:
        for name in sorted({name for value in imported(template.body) for name in named(template, value)}):
            if name not in exports:
                yield f"{template.name} imports {name}, which no template exports"
            else:
                uses[template.name].add(exports[name])
    for name in uses:
        if name in reachable(name, uses):
            yield f"{name} imports what in the end is made of its own exports; neither stack could be the first"
    by_name = {template.name: template for template in templates}
    for template in templates:
        for name, resource in template.resources.items():
            if resource["Type"] == "AWS::CloudFormation::StackSet":
                yield from handed_on(f"{template.name}: {name}", resource, by_name)


def named(template: Template, value: Any) -> set[str]:
    """A name as it is where parameters have their defaults."""
    defaults = {name: str(one["Default"]) for name, one in template.parameters.items() if "Default" in one}
    return {re.sub(r"\{(\w+)\}", lambda m: defaults.get(m[1], m[0]), text) for text in possible(value)}


def imported(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if "Fn::ImportValue" in value:
            yield value["Fn::ImportValue"]
        for inner in value.values():
            yield from imported(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from imported(inner)


def reachable(name: str, uses: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = list(uses[name])
    while ahead:
        other = ahead.pop()
        if other not in found:
            found.add(other)
            ahead += uses[other]
    return found


def handed_on(place: str, resource: dict[str, Any], by_name: dict[str, Template]) -> Iterator[str]:
    name = ((resource.get("Metadata") or {}).get("sfdata") or {}).get("template")
    if name not in by_name:
        yield f"{place} brings a template that is not here; name it in Metadata.sfdata.template, as in child/role.yaml"
        return
    given = {parameter["ParameterKey"] for parameter in resource["Properties"].get("Parameters", [])}
    known = by_name[name].parameters
    for parameter in sorted(given - known.keys()):
        yield f"{place} hands on {parameter}, which {name} does not have"
    for parameter, definition in known.items():
        if "Default" not in definition and parameter not in given:
            yield f"{place} does not hand on {parameter}, without which {name} can't be loaded"


TEMPLATES: list[Callable[[Template], Iterator[str]]] = [reasons, managed, parameters]


def findings(templates: list[Template]) -> list[str]:
    found = [line for template in templates for rule in TEMPLATES for line in rule(template)]
    found += joined(templates)
    for template in templates:
        for statement in template.statements():
            found += [f"{statement.place} {line}" for rule in STATEMENTS for line in rule(statement)]
    return found


def main() -> int:
    templates = load()
    found = findings(templates)
    for line in found:
        print(line, file=sys.stderr)
    count = sum(1 for template in templates for _ in template.statements())
    print(f"{len(templates)} templates, {count} statements, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
