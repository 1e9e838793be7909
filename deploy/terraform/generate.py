"""Writes stacks.tf and variables.tf of each environment out of the CloudFormation templates, which are the one source of truth:
each parameter becomes a variable with the same meaning, type and bounds, and without a default of its own.

    python deploy/terraform/generate.py            after a template's parameters have changed
    python deploy/terraform/generate.py --check    says which file is not what the templates ask for, and exits with 1

One parameter that several templates of an environment have is one variable, so it has to mean the same in all of them.
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from checks import template as templates  # noqa: E402

# Each environment's stacks in the order in which one needs the other, and whether a stack is made unless somebody says so.
ENVIRONMENTS = {
    "core": {"core/ecr.yaml": True, "core/network.yaml": True, "core/store.yaml": True, "core/hub.yaml": True,
             "core/shared.yaml": False, "stackset.yaml": False},
    "child": {"child/network.yaml": True, "child/endpoints.yaml": True, "child/storage.yaml": True, "child/database.yaml": True,
              "child/balancer.yaml": False, "child/dagster-roles.yaml": True, "child/dagster.yaml": True, "child/frontend.yaml": False,
              "child/role.yaml": True, "child/agent.yaml": True},
}
# What the names of an environment's stacks begin with. An LA's account has one of each, by the names that deploy/load gives
# them as well; in the core account, whose own stacks have those names, they have others.
NAMED = {"core": 'coalesce(var.prefix, "sfdata")', "child": 'coalesce(var.account, "-") == var.core_account ? "sfdata-la" : "sfdata"'}
OF_BOUNDS = ("AllowedValues", "AllowedPattern", "MinLength", "MaxLength", "MinValue", "MaxValue")
MARK = "# Written by deploy/terraform/generate.py: change the templates and run it again.\n"


def template(name):
    path = templates.FOLDER / name
    if not path.exists():
        sys.exit(f"generate: there is no {path}, which an environment of Terraform has")
    return templates.read(path.read_text(), name)


def variable_name(parameter):
    """LaName -> la_name, KMSKeyArn -> kms_key_arn"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", parameter).lower()


def variable_type(parameter):
    kind = parameter["Type"]
    if kind == "Number":
        return "number"
    if kind == "List<Number>":
        return "list(number)"
    if kind == "CommaDelimitedList" or kind.startswith("List<"):
        return "list(string)"
    return "string"


def text(value):
    """A string of HCL, which is one of JSON but for the beginnings of its own templates."""
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def bounds(name, parameter):
    """What CloudFormation would refuse, as a condition of Terraform, so that a plan tells it already."""
    kind, variable = variable_type(parameter), f"var.{name}"
    one = "item" if kind.startswith("list") else variable
    found = []
    if "AllowedValues" in parameter:
        allowed = parameter["AllowedValues"]
        numbers = kind.endswith("number") or kind == "list(number)"
        listed = ", ".join(str(value) if numbers else text(str(value)) for value in allowed)
        found.append(f"contains([{listed}], {one})")
    if "AllowedPattern" in parameter:
        pattern = parameter["AllowedPattern"]
        if "(?" in pattern:
            sys.exit(f"generate: the pattern of {name} has '(?', which Terraform's regular expressions do not know: {pattern}")
        found.append(f"can(regex({text(f'^(?:{pattern})$')}, {one}))")
    found += [f"length({one}) >= {parameter['MinLength']}"] if "MinLength" in parameter else []
    found += [f"length({one}) <= {parameter['MaxLength']}"] if "MaxLength" in parameter else []
    found += [f"{one} >= {parameter['MinValue']}"] if "MinValue" in parameter else []
    found += [f"{one} <= {parameter['MaxValue']}"] if "MaxValue" in parameter else []
    if not found:
        return None
    joined = " && ".join(found)
    if one == "item":
        joined = f"alltrue([for item in {variable} : {joined}])"
    return f"{variable} == null ? true : {joined}"


def said(parameter):
    """The bounds in words."""
    if "ConstraintDescription" in parameter:
        return str(parameter["ConstraintDescription"]).strip().rstrip(".")
    if "AllowedValues" in parameter:
        return "one of " + ", ".join(str(value) for value in parameter["AllowedValues"])
    return ", ".join(f"{bound} {parameter[bound]}" for bound in OF_BOUNDS if bound in parameter)


def gather(environment):
    """All parameters of an environment, and which of them have to be given."""
    parameters, required = {}, set()
    for name, by_default in ENVIRONMENTS[environment].items():
        for key, parameter in template(name).parameters.items():
            known = parameters.setdefault(key, (name, parameter))
            for what in ("Type", *OF_BOUNDS):
                if known[1].get(what) != parameter.get(what):
                    sys.exit(f"generate: {key} has {what} {parameter.get(what)!r} in {name} and {known[1].get(what)!r} in {known[0]}: "
                             "one name has to mean one thing in all templates of an environment")
            if "Default" not in parameter and by_default:
                required.add(key)
    return {key: parameter for key, (_, parameter) in parameters.items()}, required


def variables(environment):
    parameters, required = gather(environment)
    made = [stack(name) for name, by_default in ENVIRONMENTS[environment].items() if by_default]
    all_of_them = ", ".join(text(stack(name)) for name in ENVIRONMENTS[environment])
    blocks = [
        'variable "stacks" {\n'
        "  type        = set(string)\n"
        f'  description = "Which stacks are made: some of {", ".join(stack(name) for name in ENVIRONMENTS[environment])}."\n'
        f"  default     = [{', '.join(text(name) for name in made)}]\n\n"
        "  validation {\n"
        f"    condition     = length(setsubtract(var.stacks, [{all_of_them}])) == 0\n"
        f'    error_message = "There are the stacks {", ".join(stack(name) for name in ENVIRONMENTS[environment])}."\n'
        "  }\n}\n"
    ]
    for key, parameter in parameters.items():
        if "Description" not in parameter:
            sys.exit(f"generate: the parameter {key} has no description")
        name = variable_name(key)
        lines = [f'variable "{name}" {{', f"  type        = {variable_type(parameter)}",
                 f"  description = {text(' '.join(str(parameter['Description']).split()))}"]
        if key not in required:
            lines.append("  default     = null")
        condition = bounds(name, parameter)
        if condition:
            lines += ["", "  validation {", f"    condition     = {condition}",
                      f"    error_message = {text(f'{name}: {said(parameter)}.')}", "  }"]
        blocks.append("\n".join([*lines, "}"]) + "\n")
    return MARK + "\n" + "\n".join(blocks)


def stack(name):
    return Path(name).stem


def capabilities(body):
    """IAM resources have to be agreed to; those with names of their own by another word."""
    iam = [resource for resource in body.resources.values() if resource["Type"].startswith("AWS::IAM::")]
    names = ("RoleName", "PolicyName", "ManagedPolicyName", "InstanceProfileName", "UserName", "GroupName")
    named = any(name in (resource.get("Properties") or {}) for resource in iam for name in names)
    transforms = ["CAPABILITY_AUTO_EXPAND"] if "Transform" in body.body else []
    return (["CAPABILITY_NAMED_IAM"] if named else ["CAPABILITY_IAM"] if iam else []) + transforms


def expression(value, parameters):
    """A condition of a template's rule in Terraform's language; what is not given is the template's default there as well."""
    if not isinstance(value, dict):
        return text(str(value))
    (function, inner), *_ = value.items()
    if function == "Ref":
        variable, default = f"var.{variable_name(inner)}", parameters[inner].get("Default")
        if variable_type(parameters[inner]) != "string":
            sys.exit(f"generate: a rule compares {inner}, which is no text")
        return variable if default is None else f"({variable} == null ? {text(str(default))} : {variable})"
    parts = [expression(each, parameters) for each in inner]
    joins = {"Fn::Equals": " == ", "Fn::And": " && ", "Fn::Or": " || "}
    if function == "Fn::Not":
        return f"!{parts[0]}"
    if function not in joins:
        sys.exit(f"generate: a rule has {function}, which is not understood here: Equals, And, Or, Not and Ref are")
    return f"({joins[function].join(parts)})"


def rules(body):
    """What CloudFormation refuses of parameters together, so that a plan tells it already."""
    for rule in (body.body.get("Rules") or {}).values():
        for asserted in rule["Assertions"]:
            holds = expression(asserted["Assert"], body.parameters)
            if "RuleCondition" in rule:
                holds = f"!{expression(rule['RuleCondition'], body.parameters)} || {holds}"
            yield f"    {{ holds = {holds}, message = {text(asserted['AssertDescription'])} }},"


def stacks(environment):
    blocks, before = [f"locals {{\n  name = {NAMED[environment]}\n}}\n"], []
    for name in ENVIRONMENTS[environment]:
        body = template(name)
        given = body.parameters
        width = max(map(len, given), default=0)
        lines = [f'module "{stack(name)}" {{', '  source = "../../modules/stack"',
                 f'  count  = contains(var.stacks, "{stack(name)}") ? 1 : 0', "",
                 f'  name         = "${{local.name}}-{stack(name)}"',
                 f'  template     = "${{path.module}}/../../../cloudformation/{name}"',
                 f"  capabilities = [{', '.join(map(text, capabilities(body)))}]",
                 f"  required     = [{', '.join(text(each) for each in given if 'Default' not in given[each])}]",
                 "  parameters = {"]
        for each, parameter in given.items():
            passed = f"var.{variable_name(each)}"
            if variable_type(parameter).startswith("list"):
                passed = f'{passed} == null ? null : join(",", {passed})'
            lines.append(f"    {each.ljust(width)} = {passed}")
        demands = list(rules(body))
        lines += ["  }", *(["  rules = [", *demands, "  ]"] if demands else ["  rules = []"])]
        # All of them, since one that is not made passes nothing on.
        if before:
            lines += ["", f"  depends_on = [{', '.join(before)}]"]
        before.append(f"module.{stack(name)}")
        blocks.append("\n".join([*lines, "}"]) + "\n")
    told = [stack(name) for name in ENVIRONMENTS[environment]]
    width = max(map(len, told))
    lines = [f"    {name.ljust(width)} = one(module.{name}[*].outputs)" for name in told]
    blocks.append('output "stacks" {\n  description = "The outputs of each stack; null of one that is not made."\n  value = {\n'
                  + "\n".join(lines) + "\n  }\n}\n")
    return MARK + "\n" + "\n".join(blocks)


def main():
    checks = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not checks:
        sys.exit("generate: the one argument that there is: --check")
    stale = []
    for environment in ENVIRONMENTS:
        for name, write in (("variables.tf", variables), ("stacks.tf", stacks)):
            path = HERE / "environments" / environment / name
            wanted = write(environment)
            if not checks:
                path.write_text(wanted)
            elif not path.exists() or path.read_text() != wanted:
                stale.append(str(path.relative_to(HERE.parents[1])))
    if stale:
        sys.exit(f"generate: not what the templates ask for: {', '.join(stale)}; run python deploy/terraform/generate.py")


if __name__ == "__main__":
    main()
