"""What the sandbox consists of: the stand-in, into which `deployed` loads the templates, one hub, and an agent for each LA's
account; and a runner, which makes the tasks of one account real processes: its Dagster is a real one.

Hub and agents run with what their deployed task definitions say. Ports lie below those that the system gives to outgoing
connections.
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
from .deployed import Region

AUTHORITIES = ("northshire", "southby", "westmere")
HOSTED = "northshire"  # whose tasks the runner runs; the others' are the stand-in's make-believe
PORTS = range(20_000, 32_000)
# northshire lets one person read its logs and see what arrives; southby has the policy that ships, which shows none to anybody.
POLICIES = {"northshire": """\
permit (principal, action in [Action::"read", Action::"operate", Action::"change"], resource);
permit (principal == Operator::"alice", action in [Action::"logs.read", Action::"arrivals.list"], resource);
"""}
# What the image of the real Dagster has as variables: polling every ten seconds, and no nightly tick while somebody walks.
SENSOR_SECONDS = 10
TIMEZONE = "Europe/London"
DAGSTER = {"SENSOR_MIN_INTERVAL": str(SENSOR_SECONDS), "NIGHTLY_TIMEZONE": TIMEZONE,
           "NIGHTLY_CRON": f"0 {(time.gmtime().tm_hour + 12) % 24} * * *"}
CREDENTIALS = """\
[default]
aws_access_key_id = {aws_access_key_id}
aws_secret_access_key = {aws_secret_access_key}
aws_session_token = {aws_session_token}
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
        self.address, self.enrol, ops, *own = (f"127.0.0.1:{port}" for port in free_ports(3 + len(AUTHORITIES)))
        self.ops, self.agents_ops = f"http://{ops}", dict(zip(AUTHORITIES, own))
        for name in ("hub", *AUTHORITIES):
            (ground.STATE / name).mkdir(mode=0o700)
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
        self.url = self.facts = self.region = None
        self.variables = dict(DAGSTER)

    def servers(self):
        return [*self.agents.values(), self.hub, self.runner, self.standin]

    def start_standin(self):
        self.standin.start()
        self.standin.wait_until(self.ready_file.exists)
        self.url = json.loads(self.ready_file.read_text())["url"]

    def deploy_core(self):
        """The organisation, and the core account's stacks; and what its hub runs with."""
        self.region = Region(self.url)
        self.region.set_up(AUTHORITIES)
        self.write_hub()

    def write_hub(self):
        text = self.region.hub_text(data=ground.STATE / "hub" / "data", address=self.address, enrol=self.enrol,
                                    ops=self.ops.removeprefix("http://"))
        write(ground.STATE / "hub" / "hub.toml", text + (SHORT_LIVES if self.check else ""))

    def start_hub(self):
        """Its stack says that one task runs."""
        self.region.start_hub()
        self.write_hub()
        self.hub.start()
        self.hub.wait_until(lambda: self.get("/readyz")[0] == 200)

    def deploy(self, name, pin):
        """An authority's stacks, and its agent with what was deployed."""
        if name == HOSTED:  # from the first task on
            self.ask_standin("POST", "hosted", account=self.region.accounts[name], but=["service:sfdata-agent"])
        self.region.bring_in(name, pin)
        if name == HOSTED:
            self.start_runner(name)
        self.write_agent(name)
        self.agents[name].start()

    def write_agent(self, name, power=None):
        folder, policy = ground.STATE / name, ""
        if name in POLICIES:
            write(folder / "policy.cedar", POLICIES[name])
            policy = f'\npolicy = "{folder / "policy.cedar"}"'
        text, role = self.region.agent(
            name, power, data=folder / "data", policy=policy, address=self.address, enrol=self.enrol,
            ops=self.agents_ops[name], credentials=folder / "credentials")
        write(folder / "credentials", CREDENTIALS.format(**self.region.keys(name, role)))
        write(folder / "agent.toml", text)

    def manage_power(self, quiet="10s"):
        """From now on the agent of the hosted authority puts its platform to sleep, and hands on what arrives."""
        self.region.let_sleep(HOSTED)
        self.agents[HOSTED].stop()
        self.write_agent(HOSTED, power={"quiet": quiet})
        self.agents[HOSTED].start()

    def start_runner(self, name):
        """Have the tasks of an account run."""
        folder = ground.STATE / name
        self.facts = self.region.facts(name) | {"image": self.variables}
        write(folder / "facts.json", json.dumps(self.facts))
        ready_file = folder / "runner.json"
        self.runner.program = [ground.PYTHON, "-m", "runner", "--standin", self.url, "--facts", folder / "facts.json",
                               "--home", folder / "tasks", "--ready-file", ready_file]
        self.runner.start()
        self.runner.wait_until(ready_file.exists)

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
        reply = self.ask_standin("GET", f"calls?account={self.region.accounts[name]}&action={action}&after={after}")
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
