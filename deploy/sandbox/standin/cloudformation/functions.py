"""Intrinsic functions, where moto's resolving is wrong or silent, and references to secrets' values."""

import ipaddress
import json
import re

from moto.cloudformation import parsing

from .api import Failed, text

KNOWN = ("FindInMap", "GetAtt", "If", "Join", "Split", "Select", "Sub", "ImportValue", "Base64", "ToJsonString")
SECRET = re.compile(r"{{resolve:secretsmanager:(arn(?::[^:}]+){6}|[^:}]+)(?::SecretString:([^:}]*))?:*}}")


def install():
    moto_clean = parsing.clean_json

    def clean_json(value, resources):
        if isinstance(value, list):
            cleaned = (clean_json(one, resources) for one in value)
            return [one for one in cleaned if one is not None]  # AWS::NoValue
        if not isinstance(value, dict) or len(value) != 1:
            return moto_clean(value, resources)
        [(function, given)] = value.items()
        if function == "Fn::Cidr":
            return cidr(*clean_json(given, resources))
        if function == "Fn::GetAZs":
            region = clean_json(given, resources) or resources["AWS::Region"]
            return [f"{region}{zone}" for zone in "abc"]
        if function == "Fn::GetAtt":
            logical, *name = given.split(".") if isinstance(given, str) else given
            return moto_clean({function: [logical, ".".join(name)]}, resources)
        if function == "Fn::Select" and not isinstance(clean_json(given[1], resources), list):
            raise Failed(f"Fn::Select of what is no list: {given[1]}")
        if function.startswith("Fn::") and function[4:] not in KNOWN:
            raise Failed(f"the stand-in has no {function}")
        if function == "Ref" and given not in resources:
            raise Failed(f"Ref of {given}, which the template does not have")
        return moto_clean(value, resources)

    def condition(value, resources, conditions):
        if isinstance(value, bool):
            return value
        [(function, given)] = value.items()
        if function in ("Condition", "Fn::Condition"):  # YAML's short form is the second to moto
            return conditions[given]
        if function == "Fn::Equals":
            one, other = (clean_json(part, resources) for part in given)
            return text(one) == text(other)
        if function not in ("Fn::Not", "Fn::And", "Fn::Or"):
            raise Failed(f"a condition of {function}")
        parts = [condition(part, resources, conditions) for part in given]
        return {"Fn::Not": not parts[0], "Fn::And": all(parts), "Fn::Or": any(parts)}[function]

    def load_conditions(resources):
        """And the rules, which judge parameters together."""
        moto_conditions(resources)
        conditions = resources.lazy_condition_map
        for name, rule in (resources._template.get("Rules") or {}).items():
            if condition(rule.get("RuleCondition", True), resources, conditions):
                for one in rule["Assertions"]:
                    if not condition(one["Assert"], resources, conditions):
                        raise Failed(f"Rule {name}: {one.get('AssertDescription', 'an assertion')}")

    moto_conditions = parsing.ResourceMap.load_conditions
    parsing.clean_json, parsing.parse_condition = clean_json, condition
    parsing.ResourceMap.load_conditions = load_conditions


def cidr(block, count, bits=8):
    """So many networks of so many host bits out of a block."""
    parts = ipaddress.ip_network(block).subnets(new_prefix=32 - int(bits))
    return [str(part) for _, part in zip(range(int(count)), parts)]


def resolve(value, api):
    """`{{resolve:secretsmanager:...}}` in texts."""
    if isinstance(value, dict):
        return {key: resolve(inner, api) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolve(inner, api) for inner in value]
    if not isinstance(value, str) or "{{resolve:" not in value:
        return value

    def told(found):
        text = api("secretsmanager", "GetSecretValue", SecretId=found[1])["SecretString"]
        return json.loads(text)[found[2]] if found[2] else text

    value = SECRET.sub(told, value)
    if "{{resolve:" in value:
        raise Failed(f"the stand-in can't resolve {value}")
    return value
