"""Terraform's environments pass on all that the CloudFormation templates take, and nothing else: both are parsed here and
compared, apart from the program that wrote the one out of the other. Where there is a terraform, it judges their format and
plans them as well, against an AWS that knows only who asks.

Run by deploy/check. Terraform and its AWS provider come from no package registry that this can rely on: without them it says what
was skipped. A provider is taken from a folder laid out as a mirror (`terraform providers mirror`), or from the internet.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import hcl2

from checks import sts, template

TREE = Path(__file__).resolve().parents[2]
TERRAFORM = TREE / "deploy/terraform"
WORK = TREE / "target/terraform"
sys.path.insert(0, str(TERRAFORM))
import generate  # noqa: E402 (how a template is read; what is written of it is judged below)

# What CloudFormation takes of a template that comes with the request, and not from a bucket.
LARGEST_TEMPLATE_BYTES = 51_200
MIRRORS = ("/opt/*", "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins",
           str(Path.home() / ".terraform.d/plugins"))


class Wrong(Exception):
    """What does not hold, in words for whoever has to mend it."""


def demand(holds, message):
    if not holds:
        raise Wrong(message)


def only(value):
    """The parser wraps each attribute's value in a list."""
    return value[0] if isinstance(value, list) else value


def read(folder):
    """Variables, module calls and the whole text of one environment."""
    variables, modules, texts = {}, {}, []
    for path in sorted(folder.glob("*.tf")):
        texts.append(path.read_text())
        parsed = hcl2.loads(texts[-1])
        for block in parsed.get("variable", []):
            variables.update(block)
        for block in parsed.get("module", []):
            modules.update(block)
    return variables, modules, "\n".join(texts)


def kind(parameter):
    """The type of a variable for a parameter of the template; by itself, and not as the generator has it."""
    told = parameter["Type"]
    if told in ("Number", "List<Number>"):
        return "number" if told == "Number" else "list(number)"
    return "list(string)" if told.startswith("List<") or told == "CommaDelimitedList" else "string"


def environment(name):
    """Holds one environment to its templates; returns the templates' names."""
    variables, modules, whole = read(TERRAFORM / "environments" / name)
    demand(modules, f"{name}: there are no stacks in deploy/terraform/environments/{name}")
    for variable, block in variables.items():
        demand(only(block.get("description", "")), f"{name}: the variable {variable} has no description")
        demand(only(block.get("type", "")), f"{name}: the variable {variable} has no type")
        uses = re.sub(rf'variable "{variable}" {{.*?\n}}\n', "", whole, flags=re.DOTALL)
        demand(re.search(rf"\bvar\.{variable}\b", uses), f"{name}: the variable {variable} is not used")
    found = []
    for stack, block in modules.items():
        path = only(block["template"]).rpartition("cloudformation/")[2]
        demand((template.FOLDER / path).exists(), f"{name}: the stack {stack} is of deploy/cloudformation/{path}, which is not there")
        found.append(path)
        body = generate.template(path)
        takes, passed = body.parameters, only(block["parameters"])
        demand(set(passed) <= set(takes), f"{path} has no parameter {', '.join(sorted(set(passed) - set(takes)))}, which {name} passes")
        demand(set(takes) <= set(passed), f"{path}: {', '.join(sorted(set(takes) - set(passed)))} can't be reached from {name}")
        needed = {key for key, parameter in takes.items() if "Default" not in parameter}
        demand(set(only(block["required"]) if block["required"] != [[]] else []) == needed,
               f"{name}: the stack {stack} says that {only(block['required'])} are required, and {path} wants {sorted(needed)}")
        secret = sorted(key for key, parameter in takes.items() if "NoEcho" in parameter)
        demand(not secret, f"{path}: {', '.join(secret)} would be a secret in Terraform's state")
        for key, value in passed.items():
            used = set(re.findall(r"\bvar\.(\w+)", value))
            demand(len(used) == 1 and used <= set(variables), f"{name}: {key} of {stack} is passed {value}, which is no variable")
            wanted, declared = kind(takes[key]), only(variables[used.pop()]["type"]).strip("${}").replace(" ", "")
            demand(declared == wanted, f"{name}: {key} of {path} is {takes[key]['Type']}, and its variable {declared}, not {wanted}")
            demand(("join(" in value) == wanted.startswith("list"), f"{name}: {key} of {stack} is a {wanted}, passed as {value}")
        told = [rule["message"] for rule in only(block["rules"])]
        asserted = [each["AssertDescription"] for rule in (body.body.get("Rules") or {}).values() for each in rule["Assertions"]]
        demand(told == asserted, f"{name}: {path} demands {asserted}, and {stack} {told}")
        roles = any(resource["Type"].startswith("AWS::IAM::") for resource in body.resources.values())
        demand(not roles or any("IAM" in word for word in only(block["capabilities"])),
               f"{name}: {path} makes IAM resources, and {stack} does not allow it")
        size = (template.FOLDER / path).stat().st_size
        demand(size <= LARGEST_TEMPLATE_BYTES, f"{path} has {size} bytes; Terraform can hand over {LARGEST_TEMPLATE_BYTES} at most")
    return found


def parsed():
    done = subprocess.run([sys.executable, TERRAFORM / "generate.py", "--check"])
    demand(done.returncode == 0, "the files of deploy/terraform are behind the templates")
    covered = [path for name in ("core", "child") for path in environment(name)]
    there = {each.name for each in template.load()}
    demand(set(covered) == there, f"templates that no environment has: {', '.join(sorted(there - set(covered)))}")


def terraform(folder, *arguments, endpoint=None):
    # Whoever has set up where providers come from keeps that; no credentials or values of theirs get into the plan.
    variables = {name: value for name, value in os.environ.items()
                 if not name.startswith(("AWS_", "TF_")) or name in ("TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR")}
    variables |= {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
                  "AWS_SECRET_ACCESS_KEY": "example", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}
    if endpoint:
        variables["AWS_ENDPOINT_URL"] = endpoint
    done = subprocess.run(["terraform", f"-chdir={folder}", *arguments], env=variables, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def mirror():
    """A folder of providers on this machine, as init's argument."""
    for pattern in MIRRORS:
        for folder in sorted(glob.glob(pattern)):
            if Path(folder, "registry.terraform.io/hashicorp/aws").is_dir():
                return [f"-plugin-dir={folder}"]
    return []


def plan(folder, endpoint, *options):
    """Whether there is a plan with the example's values, and what Terraform said."""
    code, said, error = terraform(folder, "plan", "-input=false", "-no-color", "-lock=false", "-out=plan",
                                  "-var-file=example.tfvars", *options, endpoint=endpoint)
    return code == 0, " ".join((said + error).replace("│", " ").split())


def made(folder):
    """The stacks of the last plan, as {name: parameters}."""
    _, shown, _ = terraform(folder, "show", "-json", "plan")
    after = [change["change"]["after"] for change in json.loads(shown)["resource_changes"]]
    return {each["name"]: each.get("parameters") or {} for each in after}


def planned(folder, name, endpoint):
    """What is given is passed, what is not given is left to the template, and what can't be is said before anything is made."""
    holds, said = plan(folder, endpoint)
    demand(holds, f"{name}: terraform plan with example.tfvars: {said}")
    stacks = made(folder)
    by_default = {f"sfdata-{generate.stack(path)}" for path, usual in generate.ENVIRONMENTS[name].items() if usual}
    demand(set(stacks) == by_default, f"{name}: a plan makes {sorted(stacks)}, not {sorted(by_default)}")
    given = hcl2.loads((folder / "example.tfvars").read_text())
    for stack, parameters in stacks.items():
        for key, value in parameters.items():
            wanted = only(given.get(generate.variable_name(key), [None]))
            wanted = ",".join(map(str, wanted)) if isinstance(wanted, list) else str(wanted)
            demand(value == wanted, f"{name}: {stack} is passed {key} = {value!r}, and example.tfvars has {wanted!r}")


def refused(folder, child, endpoint):
    """One of the two will do for what both have alike. Each plan takes seconds, most of them to start the provider."""
    holds, alone = plan(folder, endpoint, '-var=stacks=["ecr"]')
    demand(holds and "Plan: 1 to add, 0 to change, 0 to destroy" in alone, f"one stack alone: {alone}")
    # Either would end the plan, and each is told beside the other.
    holds, said = plan(folder, endpoint, '-var=stacks=["nothing"]', "-var=account=111111111111")
    demand(not holds and "There are the stacks" in said, f"a stack that there is not was planned: {said}")
    demand(not holds and "AWS account ID not allowed" in said, f"another account's credentials were taken: {said}")
    holds, said = plan(child, endpoint, "-var=hub_service=")
    demand(not holds and "An own network needs HubService" in said, f"what a template's rules refuse was planned: {said}")
    holds, said = plan(folder, endpoint, '-var=stacks=["shared"]')
    demand(not holds and "needs SharedWith" in said, f"a stack was planned without what it needs: {said}")


def checked():
    if not shutil.which("terraform"):
        print("terraform: SKIPPED format and plan: there is no terraform on this machine (https://developer.hashicorp.com/terraform)")
        return
    code, shown, error = terraform(TERRAFORM, "fmt", "-check", "-recursive", "-diff")
    demand(code == 0, f"terraform fmt -recursive deploy/terraform would change:\n{shown}{error}")
    shutil.rmtree(WORK, ignore_errors=True)
    # A copy, so that neither state nor lock file nor provider gets into the tree.
    for part in ("terraform", "cloudformation"):
        shutil.copytree(TREE / "deploy" / part, WORK / part, ignore=shutil.ignore_patterns(".terraform*", "__pycache__", "*.tfstate*"))
    endpoint = sts.serve()
    for name in ("core", "child"):
        folder = WORK / "terraform/environments" / name
        code, _, error = terraform(folder, "init", "-input=false", "-no-color", "-backend=false", *mirror())
        if code != 0 and not mirror() and "Failed to query available provider packages" in error:
            print("terraform: SKIPPED the plan: the AWS provider can't be fetched, and no mirror of it is in "
                  f"{', '.join(MIRRORS)}")
            break
        demand(code == 0, f"{name}: terraform init: {error}")
        planned(folder, name, endpoint)
    else:
        refused(*(WORK / "terraform/environments" / name for name in ("core", "child")), endpoint)


if __name__ == "__main__":
    try:
        parsed()
        checked()
        print("terraform: passes on what the templates take")
    except Wrong as wrong:
        sys.exit(f"terraform: {wrong}")
