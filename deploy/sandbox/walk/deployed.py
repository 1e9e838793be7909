"""The estate as `deploy/cloudformation` makes it: an organisation, the core account's stacks, and each LA's; and the texts that
hub and agents get from what was deployed.

Parameters are what a person has to say. Hub and agents run with the configuration that stands in their deployed task
definitions, but for what a machine can't have that is not AWS: those places, each with its reason, are `HUB` and `AGENT`.
"""

import json
import subprocess

from . import ground
from .children import Problem, environment

TEMPLATES = ground.ROOT / "deploy" / "cloudformation"
REGION = "eu-west-2"
CORE = "111111111111"
TRUST_DOMAIN = "sandbox.example"
RELEASE = "0.1.0"
PLACE = "sfdata-core-templates"  # the bucket that StackSets read a template from
TAG = "2024.11.2"
TAGS = (TAG, "2024.12.0", "2024.12.1")
REPOSITORIES = {"hub": [RELEASE], "agent": [RELEASE], "dagster": TAGS, "code-server": TAGS}
# What a person wants of a file that arrives; it goes to agent.yaml's MoreToml.
RULE = """\
[[arrivals.rule]]
prefix = "{dataset}/"
job = "ingest_{dataset}"
tags = {{ dataset = "{dataset}" }}
key_tag = "file"
"""
DATASETS = ("ssda903", "cin")
OBJECTS = {
    # Of no rule, so that it starts nothing when the agent takes over.
    "DataStore": {"archive/ssda903/2024/header.csv": "CHILD,SEX,DOB\n1,1,01/02/2014\n",
                  "archive/ssda903/2024/episodes.csv": "CHILD,DECOM,RNE\n1,03/04/2024,S\n",
                  "archive/cin/2024/cin.xml": "<Message/>\n"},
    "Workspace": {"ssda903/clean/2024.csv": "CHILD,SEX\n1,1\n", "logs/clean.log": "ok\n"},
    "Shared": {"ssda903/concatenated.csv": "LA,CHILD\n301,1\n"},
}
# What stands in the deployed text, what takes its place here, and why.
HUB = (
    ('data_dir = "/var/lib/sfdata-hub"', 'data_dir = "{data}"', "no EFS is mounted"),
    ('address = "0.0.0.0:7443"', 'address = "{address}"', "one machine has many sandboxes, and this is on loopback alone"),
    ('enrol = "0.0.0.0:7444"', 'enrol = "{enrol}"\nops = "{ops}"', "the same; and the walk reads health and metrics"),
    ('address = "{host}:7443"', 'address = "{address}"', "there is no load balancer, nor a DNS that knows it"),
    ('enrol_address = "{host}:7444"', 'enrol_address = "{enrol}"', "the same"),
    ('folder = "/var/lib/sfdata-hub/backups"', 'folder = "{data}/backups"', "no EFS is mounted"),
    ("[enrol.aws]\n", '[enrol.aws]\nendpoint_url = "{url}"\n', "AWS STS is the stand-in"),
    ('format = "json"', 'format = "human"', "a person reads it"),
)
AGENT = (
    ('data_dir = "/var/lib/sfdata-agent"', 'data_dir = "{data}"{policy}', "no EFS is mounted; and the LA's own policy is a file"),
    ('address = "{link}"', 'address = "{address}"', "there is no PrivateLink, nor a DNS that knows its endpoint"),
    ('enrol_address = "{link_of_enrol}"', 'enrol_address = "{enrol}"', "the same"),
    ('region = "eu-west-2"', 'region = "eu-west-2"\nendpoint_url = "{url}"\ncredentials_file = "{credentials}"',
     "AWS is the stand-in, and no ECS hands out the role's credentials"),
    ('address = "127.0.0.1:9465"', 'address = "{ops}"', "the agents share one loopback"),
    ('format = "json"', 'format = "human"\nlevel = "info,sfdata_agent::power=debug"', "the walk reads when it wakes"),
)
# Nobody wants to watch for a quarter of an hour that nothing happens.
POWER = (("[power]\n", '[power]\nquiet = "{quiet}"\nperson = "1m"\nmargin = "10s"\nwake = "30s"\n', "time is short"),)


class Region:
    """The organisation with its stacks. `outputs` has what each account's stacks say."""

    def __init__(self, url):
        self.url, self.organisation, self.outputs, self.let_in = url, None, {}, []

    @property
    def accounts(self):
        return self.organisation["accounts"]

    def set_up(self, names):
        """An organisation with an account for each LA, the agent's role in each of them, and the core account up to a hub
        that waits for its keys."""
        [self.organisation] = self.ask({"step": "organise", "names": list(names)})
        of_organisation = {"OrganizationId": self.organisation["id"]}
        self.load(CORE, stack("ecr", "core/ecr.yaml", **of_organisation))
        self.ask(*({"step": "push", "repository": f"sfdata/{name}", "tags": list(tags)} for name, tags in REPOSITORIES.items()))
        self.ask({"step": "put", "bucket": PLACE, "new": True, "objects": {"role.yaml": (TEMPLATES / "child/role.yaml").read_text()}})
        self.load(
            CORE, stack("network", "core/network.yaml", **of_organisation), stack("store", "core/store.yaml"),
            stack("hub", "core/hub.yaml", HubImage=f"{CORE}.dkr.ecr.{REGION}.amazonaws.com/sfdata/hub:{RELEASE}",
                  TrustDomain=TRUST_DOMAIN),
            stack("roles", "stackset.yaml", CoreAccount=CORE, OrganizationalUnitIds=self.organisation["unit_id"], CallAs="SELF",
                  RoleTemplateUrl=f"https://{PLACE}.s3.{REGION}.amazonaws.com/role.yaml"))

    def start_hub(self):
        self.load(CORE, stack("hub", "core/hub.yaml", update=True, Tasks=1))

    def hub_text(self, **places):
        [found] = self.services_of(CORE, "sfdata-core", "hub").values()
        host = self.outputs[CORE]["HubAddress"]
        return fitted("hub.yaml", found["environment"]["SFDATA_HUB_TOML"], HUB, host=host, url=self.url, **places)

    def bring_in(self, name, pin):
        """An LA's stacks, in the order of the page, and what it has uploaded so far."""
        account, la, core = self.accounts[name], {"LaName": name}, {"CoreAccount": CORE}
        self.let_in.append(f"arn:aws:iam::{account}:root")
        self.load(CORE, stack("network", "core/network.yaml", update=True, AllowedPrincipals=",".join(self.let_in)))
        rules = "".join(RULE.format(dataset=dataset) for dataset in DATASETS)
        self.load(
            account, stack("network", "child/network.yaml", **la, HubService=self.outputs[CORE]["HubService"]),
            stack("endpoints", "child/endpoints.yaml", **la), stack("storage", "child/storage.yaml", **la),
            stack("database", "child/database.yaml", **la),
            stack("dagster-roles", "child/dagster-roles.yaml", **core),
            stack("dagster", "child/dagster.yaml", **la, **core, DagsterTag=TAG, CodeTag=TAG),
            stack("agent", "child/agent.yaml", **la, **core, TrustPin=pin, AgentTag=RELEASE, Sleep="no", MoreToml=rules))
        self.ask(*({"step": "put", "account": account, "bucket": self.outputs[account][kind], "objects": objects}
                   for kind, objects in OBJECTS.items()))

    def let_sleep(self, name):
        """The agent puts the LA's platform to sleep from now on."""
        self.load(self.accounts[name], stack("agent", "child/agent.yaml", update=True, Sleep="yes"))

    def agent(self, name, power=None, **places):
        """What an LA's agent runs with: its configuration's text, and the role that its task has."""
        [found] = self.services(name, "sfdata-agent").values()
        told, more = self.outputs[self.accounts[name]], POWER if power else ()
        return fitted("agent.yaml", found["environment"]["SFDATA_AGENT_TOML"], AGENT + more, url=self.url,
                      link=told["HubAddress"], link_of_enrol=told["EnrolAddress"], **places, **(power or {})), found["role"]

    def facts(self, name):
        """What an LA's stacks made of its platform: for whoever runs its tasks, and for the walk's own looks."""
        told, account = self.outputs[self.accounts[name]], self.accounts[name]
        [keys] = self.ask({"step": "keys", "account": account})
        return {"access_key_id": keys["aws_access_key_id"], "secret_access_key": keys["aws_secret_access_key"],
                "session_token": keys["aws_session_token"], "account": account, "region": REGION, "cluster": told["Cluster"], "services": told["Services"].split(","),
                "buckets": {"data-store": told["DataStore"], "workspace": told["Workspace"], "shared": told["Shared"]},
                "password": f"{told['PasswordArn']}:password::", "database": told["Address"]}

    def services(self, name, *services):
        """What services of an LA run with, by name."""
        return self.services_of(self.accounts[name], "sfdata", *services)

    def services_of(self, account, cluster, *services):
        found = self.ask(*({"step": "service", "account": account, "cluster": cluster, "service": service} for service in services))
        return dict(zip(services, found))

    def keys(self, name, role):
        [keys] = self.ask({"step": "keys", "account": self.accounts[name], "role": role})
        return keys

    def load(self, account, *stacks):
        for outputs in self.ask(*({"account": account, **one} for one in stacks)):
            self.outputs.setdefault(account, {}).update(outputs)

    def ask(self, *steps):
        given = [{"account": CORE, **step} for step in steps]
        done = subprocess.run([ground.PYTHON, "-m", "walk.stacks", self.url, REGION], input=json.dumps(given), text=True,
                              capture_output=True, env=environment(PYTHONPATH=str(ground.HERE)))
        if done.returncode != 0:
            raise Problem(f"The estate was not deployed. {done.stderr.strip()[-2000:]}")
        return json.loads(done.stdout)


def stack(name, template, update=False, **parameters):
    return {"step": "load", "stack": f"sfdata-{name}", "template": str(TEMPLATES / template), "parameters": parameters,
            "update": update}


def fitted(template, text, places, **given):
    """A deployed text for this machine. What is to be replaced has to be there once, so that no list here grows stale."""
    for old, new, why in places:
        old, new = old.format(**given), new.format(**given)
        lines = ("\n" + text).count("\n" + old)
        if lines != 1:
            raise Problem(f"{template} renders {lines} lines that begin with {old.strip()!r}, which are replaced in the sandbox: {why}. "
                          f"Have the list in walk/deployed.py agree with the template. It renders:\n{text}")
        text = ("\n" + text).replace("\n" + old, "\n" + new)[1:]
    return text
