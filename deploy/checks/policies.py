"""The roles that templates make may do what deploy/iam says, and nothing else.

deploy/iam is held equal to the calls that agent and hub make by tests/integration/permissions.rs; this holds the templates equal
to deploy/iam: by Sid, with the same effect, actions, resources and conditions once names are taken for names. Which roles the agent
may hand on is held to the tasks of the templates.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .estate import Estate
from .reach import ESTATES
from .template import HERE, Statement, Template, as_list, load, possible

IAM = HERE / "iam"
# The hub's own; every other file is an agent's.
HUB = ("hub-kms.json", "hub-organization.json")
# What no template gives, and why.
ELSEWHERE = {
    "hub-organization.json": "AWS Organizations has an endpoint for networks in us-east-1 alone, which the hub's network does not "
    "reach; there the endpoint of STS, by its policy, says nothing of identities from outside of the organisation",
}
# What stands in deploy/iam for every role of an account is narrower in the templates: roles by their names, or those of a
# parameter whose pattern lets in no ARN of all of them.
NARROWER = ("HandOnTheRolesOfThePlatformsTasks",)
OF_ALL = ("*", "arn:aws:iam::222222222222:*", "arn:aws:iam::222222222222:role/*", "arn:aws:iam::*:role/x", "arn:aws:iam::222222222222:role/x/*")
# An ARN of an example account stands for one that is given whole.
EXAMPLE = ":111111111111:"
NAMED = {"region": r"\{AWS::Region\}", "account": r"\{AWS::AccountId\}"}
# A name has something of a parameter or a resource in it, and never leads out of its part of an ARN.
NAME = r"[^*:/{}]*(?:\{[^{}]+\}[^*:/{}]*)+"


def known(folder: Path = IAM) -> dict[str, list[dict[str, Any]]]:
    """The statements of each file."""
    return {path.name: json.loads(path.read_text())["Statement"] for path in sorted(folder.glob("*.json"))}


def pattern(wanted: str) -> re.Pattern[str]:
    """What a text of deploy/iam may be in a template."""
    if EXAMPLE in wanted or re.fullmatch(r"\$\{[a-z_]+\}", wanted):
        name = wanted.strip("${}")
        return re.compile(NAMED[name] if name in NAMED else r"[^*{}]*\{[^{}]+\}[^*{}]*")
    pieces = re.split(r"\$\{([a-z_]+)\}", wanted)
    parts = [re.escape(piece) if i % 2 == 0 else NAMED.get(piece, NAME) for i, piece in enumerate(pieces)]
    return re.compile("".join(parts).replace("arn:aws:", r"arn:(?:aws|\{AWS::Partition\}):"))


def same_texts(wanted: Any, found: Any, template: Template) -> bool:
    """Each text of the one is one of the other, and the other way round."""
    patterns = [(text, pattern(text)) for text in as_list(wanted)]
    texts = [possible(item) for item in as_list(found)]

    def fits(one: tuple[str, re.Pattern[str]], all_of: set[str]) -> bool:
        return bool(all_of) and all(one[1].fullmatch(text) or is_resource(one[0], text, template) for text in all_of)

    return all(any(fits(one, text) for text in texts) for one in patterns) and all(
        any(fits(one, text) for one in patterns) for text in texts
    )


def is_resource(wanted: str, text: str, template: Template) -> bool:
    """Whether it is the ARN of a resource of this template, of the service that is meant and not of several."""
    whole = re.fullmatch(r"\{(\w+)\.Arn\}", text)
    service = wanted.split(":")[2] if wanted.startswith("arn:") else ""
    kind = template.resources.get(whole[1], {}).get("Type", "") if whole else ""
    return bool(service) and "*" not in wanted and kind.lower().startswith(f"aws::{service}::")


def differences(wanted: dict[str, Any], statement: Statement) -> Iterator[str]:
    body, template = statement.body, statement.template
    for key in sorted({*wanted, *body} - {"Sid", "Resource", "Condition", "Action"}):
        if wanted.get(key) != body.get(key):
            yield f"{key} is {body.get(key)}, not {wanted.get(key)}"
    extra = set(as_list(body.get("Action", []))) - set(as_list(wanted["Action"]))
    missing = set(as_list(wanted["Action"])) - set(as_list(body.get("Action", [])))
    if extra:
        yield f"also allows {', '.join(sorted(extra))}"
    if missing:
        yield f"does not allow {', '.join(sorted(missing))}"
    if statement.sid in NARROWER:
        yield from wider(wanted["Resource"], body.get("Resource", []), template)
    elif not same_texts(wanted["Resource"], body.get("Resource", []), template):
        yield f"its resources are {shown(body.get('Resource'))}, not {shown(wanted['Resource'])}"
    want, have = wanted.get("Condition") or {}, body.get("Condition") or {}
    tests = {(operator, key): value for operator, keys in want.items() for key, value in keys.items()}
    held = {(operator, key): value for operator, keys in have.items() for key, value in keys.items()}
    if tests.keys() != held.keys() or not all(same_texts(value, held[key], template) for key, value in tests.items()):
        yield f"its conditions are {json.dumps(have)}, not {json.dumps(want)}"


def wider(wanted: str, found: Any, template: Template) -> Iterator[str]:
    """What is not one of those that are meant, where deploy/iam has them all: `wanted` ends with *."""
    one = re.compile(pattern(wanted.removesuffix("*")).pattern + "[A-Za-z0-9+=,.@_-]+")
    for text in sorted({text for item in as_list(found) for text in possible(item)}):
        parameter = template.parameters.get(text.strip("{}"), {})
        given = re.compile(parameter.get("AllowedPattern") or ".*")
        if not one.fullmatch(text) and (not parameter or any(given.fullmatch(arn) for arn in OF_ALL)):
            yield f"its resource {text} may be more than single ones of {wanted}; name them"


def handed_on(templates: list[Template]) -> list[str]:
    """The roles that the agent may hand on are those by which the tasks of an LA's templates run: all of them, and no other."""
    estate = Estate([one for one in templates if one.name.startswith("child/")], ESTATES["doors"][1])
    names = {f"{name}.Arn": properties["RoleName"] for name, properties in estate.resources("AWS::IAM::Role")}
    tasks = [task for _, task in estate.resources("AWS::ECS::TaskDefinition")]
    need = {names[task[key]] for task in tasks for key in ("TaskRoleArn", "ExecutionRoleArn")}
    may = {
        str(arn).rpartition("/")[2]
        for _, policy in estate.resources("AWS::IAM::ManagedPolicy")
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Sid"] in NARROWER
        for arn in statement["Resource"]
    }
    return [f"child/role.yaml: the agent can't hand on {name}, by which a task of the templates runs" for name in sorted(need - may)] + [
        f"child/role.yaml: the agent may hand on {name}, by which no task of the templates runs" for name in sorted(may - need)
    ]


def shown(value: Any) -> str:
    return ", ".join(" or ".join(sorted(possible(item))) for item in as_list(value))


def findings(templates: list[Template], policies: dict[str, list[dict[str, Any]]]) -> list[str]:
    found: list[str] = []
    by_sid: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for file, statements in policies.items():
        for wanted in statements:
            by_sid.setdefault(wanted["Sid"], []).append((file, wanted))
    seen: set[tuple[str, str]] = set()
    agents: set[tuple[str, str]] = set()
    identity = [one for template in templates for one in template.statements() if one.kind == "identity"]
    for statement in identity:
        candidates = by_sid.get(statement.sid, [])
        try:
            lines = {file: list(differences(wanted, statement)) for file, wanted in candidates}
        except ValueError as error:
            lines = {file: [str(error)] for file, _ in candidates}
        same = [file for file, different in lines.items() if not different]
        seen |= {(file, statement.sid) for file in same}
        agents |= {(statement.template.name, role) for file in same if file not in HUB for role in statement.roles}
        if candidates and not same:
            file, different = min(lines.items(), key=lambda item: len(item[1]))
            found += [f"{statement.place} is not that of deploy/iam/{file}: {line}" for line in different]
            seen |= {(file, statement.sid) for file, _ in candidates}  # told already
    for file, statements in policies.items():
        if file in ELSEWHERE:
            found += [f"deploy/iam/{file} is in a template and among ELSEWHERE of checks/policies.py; take it out there"] * any(
                name == file for name, _ in seen
            )
            continue
        absent = [wanted["Sid"] for wanted in statements if (file, wanted["Sid"]) not in seen]
        found += [f"deploy/iam/{file}: no template has the statement {sid}" for sid in absent]
    for statement in identity:
        if statement.sid not in by_sid and any((statement.template.name, role) in agents for role in statement.roles):
            found.append(f"{statement.place} is the agent's and stands in no file of deploy/iam; add it there, with a test")
    return found


def main() -> int:
    policies = known()
    templates = load()
    found = findings(templates, policies) + handed_on(templates)
    for line in found:
        print(line, file=sys.stderr)
    print(f"{sum(map(len, policies.values()))} statements of deploy/iam, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
