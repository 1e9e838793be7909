"""What the sandbox consists of: the stand-in with two seeded accounts, one hub, and an agent for each account; and a
runner, which makes the tasks of one account real processes: its Dagster is a real one.

Configurations have the shape of deploy/config/. Ports lie below those that the system gives to outgoing connections.
"""

import json
import os
import random
import socket
import time
import urllib.error
import urllib.request

from . import ground
from .children import Problem, Server, end, environment

AUTHORITIES = {"northshire": "222222222222", "southby": "333333333333"}
HOSTED = "northshire"  # whose tasks the runner runs; the others' are the stand-in's make-believe
PORTS = range(20_000, 32_000)
HUB = """\
data_dir = "{data}"
trust_domain = "sandbox.example"
hub_id = "core"

[listen]
address = "{address}"
enrol = "{enrol}"
ops = "{ops}"

[public]
address = "{address}"
enrol_address = "{enrol}"
{more}"""
AGENT = """\
data_dir = "{data}"
{policy}
[aws]
region = "{region}"
endpoint_url = "{url}"
credentials_file = "{credentials}"

[platform]
cluster = "{cluster}"
webserver = "webserver"
daemon = "daemon"
code_servers = ["code-server"]
aurora_cluster = "{db_cluster}"

[platform.buckets]
data_store = "{data_store}"
workspace = "{workspace}"
shared = "{shared}"
"""
# What northshire's agent is given when it is to put its platform to sleep. Short, lest somebody who watches gets bored.
POWER = """
[power]
quiet = "{quiet}"
person = "1m"
margin = "10s"
wake = "30s"

[log]
level = "info,sfdata_agent::power=debug"

[arrivals]
queue = "{url}/{account}/{arrivals}"
"""
RULE = """
[[arrivals.rule]]
prefix = "{dataset}/"
job = "ingest_{dataset}"
tags = {{ dataset = "{dataset}" }}
key_tag = "file"
"""
DATASETS = ("ssda903", "cin")
# northshire lets one person read its logs and see what arrives; southby has the policy that ships, which shows none to anybody.
POLICIES = {"northshire": """\
permit (principal, action in [Action::"read", Action::"operate", Action::"change"], resource);
permit (principal == Operator::"alice", action in [Action::"logs.read", Action::"arrivals.list"], resource);
"""}
# Variables of the real Dagster's containers: polling every ten seconds, and no nightly tick while somebody walks.
SENSOR_SECONDS = 10
TIMEZONE = "Europe/London"
DAGSTER = {"SENSOR_MIN_INTERVAL": str(SENSOR_SECONDS), "NIGHTLY_TIMEZONE": TIMEZONE,
           "NIGHTLY_CRON": f"0 {(time.gmtime().tm_hour + 12) % 24} * * *"}
CREDENTIALS = """\
[default]
aws_access_key_id = {access_key_id}
aws_secret_access_key = {secret_access_key}
aws_session_token = {session_token}
"""
# In a check, certificates live so short that their renewal is seen; otherwise 24 hours, as they should.
SHORT_LIFE_SECONDS = 40
SHORT_LIVES = f"""
[certificates]
agent_lifetime = "{SHORT_LIFE_SECONDS}s"
"""


class Estate:
    """All servers of one run. `lock` is held by each of them."""

    def __init__(self, lock, check):
        self.check = check
        address, enrol, ops = (f"127.0.0.1:{port}" for port in free_ports(3))
        self.ops = f"http://{ops}"
        for name in ("hub", *AUTHORITIES):
            (ground.STATE / name).mkdir(mode=0o700)
        config = HUB.format(data=ground.STATE / "hub" / "data", address=address, enrol=enrol, ops=ops,
                            more=SHORT_LIVES if check else "")
        write(ground.STATE / "hub" / "hub.toml", config)
        self.ready_file = ground.STATE / "standin.json"
        options = {"keep": (lock,), "cwd": ground.STATE, "env": environment()}
        of_ours = {"env": environment(PYTHONPATH=str(ground.HERE), PYTHONDONTWRITEBYTECODE="1")}
        self.standin = Server(
            "the AWS stand-in",
            [ground.PYTHON, "-m", "standin", "--port", "0", "--ready-file", self.ready_file, "--until-stdin-closes",
             "--task-start-seconds", "1", "--task-stop-seconds", "1"],
            ground.LOGS / "standin.log", feeds=True,
            **options | of_ours)
        self.runner = Server("the runner of northshire's tasks", [], ground.LOGS / "runner.log", **options | of_ours)
        self.hub = Server("the hub", [ground.BIN / "sfdata-hub", "--config", "hub/hub.toml", "run"],
                          ground.LOGS / "hub.log", **options)
        self.agents = {
            name: Server(f"the agent of {name}",
                         [ground.BIN / "sfdata-agent", "--config", f"{name}/agent.toml", "run"],
                         ground.LOGS / f"{name}.log", **options)
            for name in AUTHORITIES}
        self.url = self.facts = None
        self.variables = dict(DAGSTER)

    def servers(self):
        return [*self.agents.values(), self.hub, self.runner, self.standin]

    def start_standin(self):
        self.standin.start()
        self.standin.wait_until(self.ready_file.exists)
        self.url = json.loads(self.ready_file.read_text())["url"]

    def seed(self, name):
        """Make an authority's account, and the configuration of its agent."""
        hosted = {"hosted": self.variables} if name == HOSTED else {}
        facts = self.ask_standin("POST", "seed", account=AUTHORITIES[name], la=name, **hosted)
        folder, buckets = ground.STATE / name, facts["buckets"]
        if hosted:
            self.start_runner(facts, folder)
        write(folder / "credentials", CREDENTIALS.format(**facts))
        policy = ""
        if name in POLICIES:
            write(folder / "policy.cedar", POLICIES[name])
            policy = f'policy = "{folder / "policy.cedar"}"\n'
        write(folder / "agent.toml", AGENT.format(
            data=folder / "data", policy=policy, url=self.url, credentials=folder / "credentials", data_store=buckets["data-store"],
            workspace=buckets["workspace"], shared=buckets["shared"], **facts))

    def manage_power(self, quiet="10s"):
        """From now on the agent of the hosted authority puts its platform to sleep, and takes in what arrives."""
        facts = self.ask_standin("POST", "seed", account=AUTHORITIES[HOSTED], la=HOSTED, hosted=self.variables, arrivals=True)
        agent, config = self.agents[HOSTED], ground.STATE / HOSTED / "agent.toml"
        agent.stop()
        rules = "".join(RULE.format(dataset=dataset) for dataset in DATASETS)
        write(config, config.read_text() + POWER.format(url=self.url, quiet=quiet, **facts) + rules)
        agent.start()

    def start_runner(self, facts, folder):
        """Have the tasks of an account run."""
        self.facts = facts
        write(folder / "facts.json", json.dumps(facts))
        ready_file = folder / "runner.json"
        self.runner.program = [ground.PYTHON, "-m", "runner", "--standin", self.url, "--facts", folder / "facts.json",
                               "--home", folder / "tasks", "--ready-file", ready_file]
        self.runner.start()
        self.runner.wait_until(ready_file.exists)

    def start_hub(self):
        self.hub.start()
        self.hub.wait_until(lambda: self.get("/readyz")[0] == 200)

    def get(self, path):
        """Status and text of a page of the hub's operations listener; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.ops + path, timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ask_standin(self, method, path, **body):
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"{self.url}/standin/{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return json.load(reply)
        except OSError as error:
            raise Problem(f"The AWS stand-in did not answer {method} {path}: {error}; its log: "
                          f"{self.standin.log}") from error

    def calls(self, name, action, after):
        """What was asked of an authority's account since the log's entry `after`."""
        reply = self.ask_standin("GET", f"calls?account={AUTHORITIES[name]}&action={action}&after={after}")
        return reply["calls"]

    def mark(self):
        """The newest entry of the stand-in's log."""
        return max((call["sequence"] for call in self.ask_standin("GET", "calls")["calls"]), default=0)

    def connected(self):
        """How many agents have a session, as the hub's own metrics tell."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith("sfdata_hub_agents_connected "):
                return int(line.split()[1])
        return None

    def dead(self):
        return [server for server in self.servers() if server.has_died()]

    def stop(self):
        """Agents first, then the hub, then what stands for AWS. Gives those that had to be killed."""
        killed = []
        for group in (list(self.agents.values()), [self.hub], [self.runner], [self.standin]):
            running = [server for server in group if server.process]
            late = end([server.process for server in running])
            killed += [server for server in running if server.process in late]
        return killed


def write(path, text):
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)


def free_ports(count):
    """Ports that nobody listens on now."""
    deadline, held = time.monotonic() + 10, {}
    while len(held) < count:
        if time.monotonic() > deadline:
            raise Problem("No free port was found between 20000 and 32000 on 127.0.0.1.")
        port, attempt = random.choice(PORTS), socket.socket()
        try:
            attempt.bind(("127.0.0.1", port))
            held[port] = attempt
        except OSError:
            attempt.close()
    for attempt in held.values():
        attempt.close()
    return list(held)
