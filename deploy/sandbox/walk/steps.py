"""The walk: the product's main job, step by step, told to whoever watches and judged in a check.

`STEPS` at the end has the order; each step's first line of documentation is its title, the rest is said before it runs.
A later step relies on those before it. Services are those of the templates; alice brings daemon and code server up, the webserver stays at 0 tasks.
"""

import json
import time
import tomllib

from . import ground, power, talk
from .estate import AUTHORITIES, SHORT_LIFE_SECONDS

PILOT = ("--group", "pilot")
NORTHSHIRE = ("--agent", "northshire")
SOUTHBY = ("--agent", "southby")
EACH = dict.fromkeys(AUTHORITIES, "succeeded")
FORCED = [{"forceNewDeployment": True}]
ARRIVED = "ssda903/2025/episodes.csv"
AT_FIRST = {"webserver": 0, "daemon": 1, "code-server": 1}


def start_hub(walk):
    """A hub begins
    The core account's templates are loaded: registry, network, store, hub, and the agent's role for every account of the
    organisation's unit. Then the hub makes its keys, its own certificate authority and its store, and invites a first
    operator, alice, by a token that works once and within the hour; and its stack is told to run it."""
    walk.say("Loading deploy/cloudformation/core into account 111111111111")
    walk.estate.deploy_core()
    init = walk.run("sfdata-hub", ("--config", "hub/hub.toml", "init", "--operator", "alice"), keep=True)
    walk.token = init.text
    walk.estate.start_hub()
    walk.say("The hub runs, with what its task definition says: sfdata-hub --config hub/hub.toml run")
    walk.expect("/healthz of the hub", lambda: walk.estate.get("/healthz"), (200, "ok\n"), walk.estate.hub.log)


def log_in(walk):
    """Alice logs in
    The token pins the hub's authority, so that nobody is trusted on first use. Alice's two keys are made here and stay
    here: one for the connection, one that signs her commands."""
    answer = walk.hubctl("login", walk.token)
    walk.expect("alice may not sign before a trust bundle lists her", lambda: answer.json["may_sign"], False)


def make_trust(walk):
    """A trust root, which the hub cannot change
    Who may sign commands stands in a bundle that root keys sign, offline. Two root keys are made here, and both have to
    sign. In earnest each is kept by another person, away from the hub; these are thrown away with the sandbox. hubctl
    prints the bundle each time; here it is shown once, complete."""
    for number in (1, 2):
        walk.hubctl("key", "create", "--out", f"root-{number}.key")
    walk.hubctl("trust", "init", "--hub", "hub/data/hub-identity.pem", "--root-key", "root-1.key",
                "--root-key", "root-2.key", "--threshold", "2", brief=True)
    admit(walk, "alice", "admin", ())


def admit(walk, operator, role, profile):
    """List an operator's key in the bundle, sign that with both root keys, and publish it."""
    key = walk.hubctl(*profile, "key", "show", quiet=True).json["public_key"]
    walk.hubctl("trust", "add-operator", operator, "--key", key, "--role", role, brief=True)
    for number in (1, 2):
        signed = walk.hubctl("trust", "sign", "--root-key", f"root-{number}.key", brief=number == 1)
        walk.expect(f"the bundle is complete after {number} of 2 signatures",
                    lambda: signed.json["complete"], number == 2)
    published = walk.hubctl("trust", "publish")
    walk.expect("the published version", lambda: published.json, {"version": 1 if operator == "alice" else 2})


def join_agents(walk):
    """Three authorities join
    northshire, southby and westmere have an AWS account each. Alice registers account and role of each agent, and the LA's
    templates are loaded with the pin that this prints. The agent joins by its role, as AWS itself attests it: there is no
    secret to hand over. It listens nowhere: it dials out. northshire's tasks are real processes of Dagster, with a
    PostgreSQL; the others' are the stand-in's make-believe."""
    for name in AUTHORITIES:
        account = walk.estate.region.accounts[name]
        registered = walk.hubctl("agents", "register", name, "--account", account, "--role", "sfdata-agent", "--group", "pilot",
                                 "--label", f"region={'north' if name == 'northshire' else 'south'}", keep=True)
        join = registered.json if walk.check else tomllib.loads(registered.text)["join"]
        walk.say(f"Loading deploy/cloudformation/child into account {account}")
        walk.estate.deploy(name, "/".join(join[part] for part in ("trust_domain", "ca_pin", "root_pin")))
        walk.until(f"{name} has joined", identity(walk, name).exists, log=walk.estate.agents[name].log)
        walk.certificates[name] = certificate(walk, name)
        walk.say(f"The agent of {name} runs, with what its task definition says: sfdata-agent --config {name}/agent.toml run")
    for service, count in AT_FIRST.items():
        walk.until("all agents know their platforms", lambda: all(map(has_reported, walk.agents().values())))
        if count:
            walk.hubctl("ecs", "scale", service, str(count), *PILOT, "--reason", "Dagster is brought up")
    for name in AUTHORITIES:
        walk.until(f"{name} reports its health", lambda: running(walk.agents()[name]) == AT_FIRST,
                   log=walk.estate.agents[name].log)


def has_reported(agent):
    health = agent["health"] or {}
    return agent["state"] == "connected" and health.get("aurora") and running(agent)


def running(agent):
    """Running tasks of Dagster's services, by the agent's health."""
    services = ((agent["health"] or {}).get("ecs") or {}).get("services") or []
    return {entry["name"]: entry["running"] for entry in services}


def identity(walk, name):
    return ground.STATE / name / "data" / "identity.pem"


def certificate(walk, name):
    return walk.reading("certificate", identity(walk, name))


def see_fleet(walk):
    """The whole fleet at a glance
    What each agent reported when it connected and whenever something changes."""
    walk.hubctl("agents", "list")
    if walk.check:  # whoever takes a new certificate into use connects anew
        agents = walk.until("everybody is connected", lambda: (found := walk.agents()) and {
            name: agent["state"] for name, agent in found.items()} == dict.fromkeys(AUTHORITIES, "connected") and found)
        for name in AUTHORITIES:
            walk.expect(f"services of {name}", running(agents[name]), AT_FIRST)
            walk.expect(f"database of {name}", agents[name]["health"]["aurora"]["state"]["status"], "available")
            walk.expect(f"account of {name}", agents[name]["account"], walk.estate.region.accounts[name])


def see_services(walk):
    """ECS services of a group
    A read is a signed command like any other: every agent of the group checks both signatures and looks for itself."""
    answer = walk.hubctl("ecs", "status", *PILOT)
    walk.expect("ecs status", lambda: answer.states(), EACH)
    walk.expect("services of southby", lambda: [
        (entry["name"], entry["running"])
        for entry in answer.targets()["southby"]["outcome"]["result"]["services"]
    ], [("webserver", 0), ("daemon", 1), ("code-server", 1)])


def scale(walk):
    """Scale northshire's webserver from 0 to 1
    hubctl waits until the task really runs, and shows how far it is."""
    mark = walk.estate.mark()
    answer = walk.hubctl("ecs", "scale", "webserver", "1", *NORTHSHIRE, "--reason", "look at run 4711")
    walk.expect("the webserver's tasks", lambda: {
        name: answer.targets()["northshire"]["outcome"]["result"]["service"][name] for name in ("desired", "running")
    }, {"desired": 1, "running": 1})
    pick = only("service", "desiredCount", "forceNewDeployment")
    walk.calls("scaling", "northshire", "UpdateService", mark, [{"service": "webserver", "desiredCount": 1}], pick)
    walk.calls("scaling", "southby", "UpdateService", mark, [])


def only(*names):
    return lambda parameters: {name: parameters[name] for name in names if parameters.get(name) not in (None, False)}


def restart(walk):
    """Restart the code server of all at once
    One command, one signature of alice's, three dispatches. It takes effect once in each account: the stand-in's own log
    is asked, not ours."""
    mark = walk.estate.mark()
    answer = walk.hubctl("ecs", "restart", "code-server", "--all", "--reason", "new reference data")
    walk.expect("restart", lambda: answer.states(), EACH)
    pick = only("service", "desiredCount", "forceNewDeployment")
    for name in AUTHORITIES:
        walk.calls("a restart", name, "UpdateService", mark,
                   [{"service": "code-server", "forceNewDeployment": True}], pick)
    walk.say("In the stand-in's log: one UpdateService with forceNewDeployment in each account")


def deploy(walk):
    """Deploy an image by its tag to southby, and take it back
    The tag is looked up by the agent, in ECR; what alice signs is the digest. The new task definition is the old one with
    another image."""
    walk.hubctl("ecs", "deploy", "code-server", "--tag", "2024.12.1", *SOUTHBY, "--plan")
    answer = walk.hubctl("ecs", "deploy", "code-server", "--tag", "2024.12.1", *SOUTHBY, "--settle", "1s",
                         "--reason", "the census fix")
    walk.expect("the image is deployed by digest", lambda: "@sha256:" in service_of(answer, "southby")["image"], True)
    answer = walk.hubctl("ecs", "rollback", "code-server", *SOUTHBY, "--settle", "1s", "--reason", "a try")
    walk.expect("the old image", lambda: service_of(answer, "southby")["image"].split(":")[-1], "2024.11.2")


def run_task(walk):
    """A task of its own, and a value out of the clear
    A one-off task like northshire's webserver: once, whatever happens to the agent, and its exit code decides. Then a value
    that somebody gave as a plain variable goes to Secrets Manager; nobody sees it. What is likely a secret by its name is
    not taken as a plain variable at all."""
    mark = walk.estate.mark()
    ran = walk.hubctl("ecs", "run", "webserver", *NORTHSHIRE, "--reason", "new release", "--",
                      "dagster", "instance", "migrate")
    walk.expect("its exit code", lambda: ran.states(), {"northshire": "succeeded"})
    walk.calls("a task", "northshire", "RunTask", mark, [{"count": 1}], only("count"))
    walk.hubctl("ecs", "set-env", "code-server", "RETURNS_PASSWORD=correct-horse", *NORTHSHIRE, "--reason", "try", code=2)
    walk.hubctl("ecs", "set-env", "code-server", "RETURNS_LOGIN=correct-horse", *NORTHSHIRE, "--settle", "1s",
                "--reason", "for the new return")
    walk.hubctl("ecs", "use-secret", "code-server", "--env", "RETURNS_LOGIN", *NORTHSHIRE, "--settle", "1s",
                "--reason", "out of the clear")
    walk.expect("where the task definition has it", lambda: [
        "RETURNS_LOGIN" in walk.estate.region.services("northshire", "code-server")["code-server"][kind]
        for kind in ("environment", "secrets")], [False, True])


def service_of(answer, name):
    return answer.targets()[name]["outcome"]["result"]["service"]


def see_database_and_buckets(walk):
    """Databases and buckets
    Of the buckets only number and size of the objects are read."""
    answer = walk.hubctl("aurora", "status", "--all")
    walk.expect("databases", lambda: [
        (entry["outcome"]["result"]["aurora"]["cluster"], entry["outcome"]["result"]["aurora"]["status"])
        for _, entry in sorted(answer.targets().items())
    ], [("sfdata", "available")] * len(AUTHORITIES))
    usage = walk.hubctl("s3", "usage", "--all")
    for name in AUTHORITIES:
        walk.expect(f"objects in the buckets of {name}", lambda: {
            bucket["role"]: bucket["objects"] for bucket in usage.targets()[name]["outcome"]["result"]["buckets"]
        }, {"data-store": 3, "workspace": 2, "shared": 1})


def secure_buckets(walk):
    """Buckets as they should be
    What southby's buckets lack is shown, planned and set right: closed to the public, TLS alone, versions kept. What others
    have set there stays. The second time there is nothing to do."""
    walk.hubctl("s3", "drift", *SOUTHBY)
    planned = walk.hubctl("s3", "ensure", *SOUTHBY, "--plan", brief=True)
    done = walk.hubctl("s3", "ensure", *SOUTHBY, "--reason", "first set-up", brief=True)
    again = walk.hubctl("s3", "drift", *SOUTHBY)

    def changes(answer):
        buckets = answer.targets()["southby"]["outcome"]["result"]["buckets"]
        return [change["property"] for bucket in buckets for change in bucket["changes"]]

    walk.expect("what was planned is what was done", lambda: [
        change["property"] for change in planned.targets()["southby"]["outcome"]["result"]["plan"]["changes"]
    ], changes(done) if walk.check else [])
    walk.expect("what still differs", lambda: changes(again), [])


def read_logs(walk):
    """What the code server wrote
    Log lines may name a child. southby has the policy that ships, and refuses; northshire lets alice read them. They are
    sealed to this one call: the hub hands them on, and can neither read nor keep them."""
    refused = walk.hubctl("logs", "code-server", *SOUTHBY, "--reason", "try", code=3)
    walk.expect("lines of southby", lambda: refused.text, "")
    lines = walk.hubctl("logs", "code-server", *NORTHSHIRE, "--grep", "Started Dagster code server", "--reason", "did it come up?")
    walk.expect("lines of northshire", lambda: {
        (line["agent_id"], "sfdata_pipelines on port 4000" in line["message"])
        for line in map(json.loads, lines.text.splitlines())
    }, {("northshire", True)})


def begin_pipeline(walk):
    """A file arrives at northshire
    It lies in the data store, and Dagster is told to ingest it. The run is a task of its own in ECS. The jobs that follow
    are asked for by sensors that look every few seconds; nobody waits for them here."""
    walk.until("Dagster has loaded its code", walk.pipeline.is_loaded, log=walk.estate.runner.log)
    walk.pipeline.put("data-store", ARRIVED, "CHILD,DECOM  \n\n2,05/06/2025\n")
    walk.run_id = walk.pipeline.launch("ingest_ssda903")
    walk.expect("a run was launched", lambda: bool(walk.run_id), True, walk.estate.runner.log)
    walk.say(f"Run {walk.run_id}; Dagster's own page is {walk.pipeline.page()}")


def end_pipeline(walk):
    """What became of the file
    Three jobs later it is tidy and in the shared bucket. Meanwhile code server and daemon were restarted: there were never
    two daemons, and no run was lost."""
    walk.until("the file is in the shared bucket", lambda: walk.pipeline.read("shared", ARRIVED),
               log=walk.estate.runner.log)
    walk.expect("what was made of it", lambda: walk.pipeline.read("shared", ARRIVED), "CHILD,DECOM\n2,05/06/2025\n")
    walk.until("all runs have ended", lambda: {run["status"] for run in walk.pipeline.runs() or []} == {"SUCCESS"},
               log=walk.estate.runner.log)
    walk.expect("runs", lambda: sorted((run["jobName"], run["tags"].get("dataset")) for run in walk.pipeline.runs()),
                [("clean", "ssda903"), ("ingest_ssda903", "ssda903"), ("publish", "ssda903")])
    walk.expect("daemons at once", lambda: walk.pipeline.most_at_once("service:daemon"), 1, walk.estate.runner.log)
    if not walk.check:
        for run in reversed(walk.pipeline.runs()):
            walk.say(f"{run['jobName']:16} queued to ended in {run['endTime'] - run['creationTime']:.1f} s")


def refresh(walk):
    """Ask the agents to look again, now
    They report at once when something changes and at least every 30 seconds; this is for the impatient."""
    answer = walk.hubctl("agents", "refresh", "--all")
    walk.expect("refresh", lambda: answer.states(), EACH)
    walk.expect("northshire's webserver in the fresh report", lambda: [
        entry["running"] for entry in answer.targets()["northshire"]["outcome"]["result"]["health"]["ecs"]["services"]
        if entry["name"] == "webserver"
    ], [1])


def wait_for_absent(walk):
    """Commands for an agent that is away
    southby's agent is stopped. A command for it is durable at the hub before hubctl returns, and waits. A second one is
    taken back before anybody saw it. When the agent is back, the first is delivered and the second is not."""
    mark = walk.estate.mark()
    walk.say("southby's agent is stopped (SIGTERM)")
    walk.estate.agents["southby"].stop()
    walk.until_state("southby", "away")
    walk.hubctl("agents", "list")
    kept = submit(walk, "ecs", "restart", "daemon", *SOUTHBY, "--reason", "hangs since noon")
    taken_back = submit(walk, "ecs", "scale", "webserver", "1", *SOUTHBY, "--reason", "a slip of the finger")
    waiting = walk.hubctl("commands", "list", "--unfinished")
    walk.expect("what waits", lambda: {
        entry["command_id"]: entry["states"] for entry in waiting.json["commands"]
    }, {kept: {"waiting": 1}, taken_back: {"waiting": 1}})
    cancelled = walk.hubctl("commands", "cancel", taken_back, "--reason", "not meant")
    walk.expect("the command that was taken back", lambda: cancelled.states(), {"southby": "cancelled"})
    walk.calls("nobody is there", "southby", "UpdateService", mark, [])
    walk.say("southby's agent is started again")
    walk.estate.agents["southby"].start()
    watched = walk.hubctl("commands", "watch", kept)
    walk.expect("the command that waited", lambda: watched.states(), {"southby": "succeeded"})
    walk.calls("delivered once, the other never", "southby", "UpdateService", mark,
               [{"service": "daemon", "forceNewDeployment": True}],
               only("service", "desiredCount", "forceNewDeployment"))


def submit(walk, *arguments):
    """A command's id; nobody waits for it."""
    answer = walk.hubctl(*arguments, "--no-wait", keep=True)
    return answer.json["command_id"] if walk.check else answer.text


def hold(walk):
    """The authority's own say
    northshire holds its agent: from then on it refuses everything but reads, whoever signs. The hub sees that and why,
    and can do nothing about it."""
    mark = walk.estate.mark()
    walk.agent("northshire", "hold", "--reason", "inspection until Friday")
    refused = walk.hubctl("ecs", "restart", "daemon", *NORTHSHIRE, "--reason", "try", code=3)
    walk.expect("why it is refused", lambda: refused.targets()["northshire"]["outcome"]["reason"], "held")
    walk.hubctl("ecs", "status", *NORTHSHIRE)
    walk.calls("a refused command", "northshire", "UpdateService", mark, [])
    walk.until("the hub shows the hold", lambda: walk.agents()["northshire"]["health"]["hold"],
               log=walk.estate.agents["northshire"].log)
    walk.agent("northshire", "release")
    walk.hubctl("ecs", "restart", "daemon", *NORTHSHIRE, "--reason", "after the inspection")
    walk.calls("after the release", "northshire", "UpdateService", mark, FORCED, only("forceNewDeployment"))


def lock(walk):
    """Lock an agent out
    Its live session ends within a second, and it is not let in again until it is unlocked."""
    walk.hubctl("agents", "lock", "southby", "--reason", "laptop stolen")
    # Well before its certificate ends, which would close it as well.
    walk.until("southby's session has ended", lambda: walk.estate.connected() == len(AUTHORITIES) - 1, SHORT_LIFE_SECONDS / 4,
               walk.estate.hub.log, pause=0.02)
    answer = walk.hubctl("agents", "list")
    walk.expect("southby", lambda: answer.states()["southby"], "locked")
    walk.hubctl("agents", "unlock", "southby", "--reason", "laptop found")
    walk.until_state("southby", "connected")
    walk.say("southby has connected again by itself")


def deny(walk):
    """A second operator, who may only look
    bob is invited, logs in on a profile of his own, and the next version of the bundle gives his key the role of a
    viewer. What he may not do is denied by the hub (exit code 5); an agent would refuse it as well."""
    bob = ("--profile", "bob")
    mark = walk.estate.mark()
    invited = walk.hubctl("operators", "invite", "bob", keep=True)
    walk.hubctl(*bob, "login", invited.json["token"] if walk.check else invited.text)
    admit(walk, "bob", "viewer", bob)
    seen = walk.hubctl(*bob, "ecs", "status", *NORTHSHIRE)
    walk.expect("what bob sees", lambda: seen.states(), {"northshire": "succeeded"})
    walk.hubctl(*bob, "ecs", "restart", "daemon", *NORTHSHIRE, "--reason", "just trying", code=5)
    walk.hubctl(*bob, "agents", "lock", "northshire", code=5)
    for name in AUTHORITIES:
        walk.calls("a denied command", name, "UpdateService", mark, [])


def certificates(walk):
    """Certificates
    An agent's certificate lives for 24 hours; the agent renews it itself at half of that and drops no work."""
    for name in AUTHORITIES:
        found = await_renewal(walk, name) if walk.check else certificate(walk, name)
        walk.expect(f"whose certificate {name} has", found["uri"], f"spiffe://sandbox.example/agent/{name}")
        walk.say(f"{found['uri']}\n  valid from {found['from']} until {found['until']}")
    for name in AUTHORITIES:
        walk.until_state(name, "connected", 5)


def await_renewal(walk, name):
    """In a check a certificate lives for 40 seconds. It has to be renewed at half of that, 10 per cent of it allowed,
    whatever else happened: trust bundles and a restart of the agent must not put it off."""
    first = walk.certificates[name]
    latest = first["ends"] - 0.45 * SHORT_LIFE_SECONDS + 3
    return walk.until(
        f"{name} renewed its certificate by {time.strftime('%H:%M:%SZ', time.gmtime(latest))}",
        lambda: (seen := certificate(walk, name))["serial"] != first["serial"] and seen,
        max(1, latest - time.time()), walk.estate.agents[name].log, pause=0.5)


RECORDED = {
    "hub.created", "operator.invited", "operator.joined", "trust.published", "agent.registered", "agent.joined",
    "agent.locked", "agent.unlocked", "operator.denied", "command.submitted", "command.dispatched",
    "command.succeeded", "command.refused", "command.cancelled",
}


def audit(walk):
    """Who did what
    The hub's record is only ever added to, and each entry holds the hash of the one before. hubctl recomputes that
    chain itself. Each agent keeps a record of its own, out of the hub's reach, so that the two can be compared."""
    listed = walk.hubctl("audit", "list", "--limit", "500" if walk.check else "12")
    verified = walk.hubctl("audit", "verify")
    if walk.check:
        kinds = {entry["kind"] for entry in listed.json["entries"]}
        walk.expect("kinds of entries that are missing", sorted(RECORDED - kinds), [])
        walk.expect("the chain holds", verified.json["holds"], True)
    own = walk.agent("northshire", "audit", keep=True)
    if walk.check:
        ours = {entry["command_id"]: entry["outcome"].split(":")[0] for entry in map(json.loads, own.text.splitlines())}
        hubs = walk.hubctl("commands", "list", *NORTHSHIRE, "--limit", "500", quiet=True).json["commands"]
        shown = (walk.hubctl("commands", "show", entry["command_id"], quiet=True) for entry in hubs)
        theirs = {answer.json["command_id"]: answer.states()["northshire"] for answer in shown}
        walk.expect("northshire's own record is the hub's", ours, theirs)


def measure(walk):
    """What Prometheus reads
    The hub's health and metrics, on loopback only."""
    walk.say(f"{walk.estate.ops}/healthz, {walk.estate.ops}/readyz and {walk.estate.ops}/metrics")
    walk.expect("/readyz", lambda: walk.estate.get("/readyz"), (200, "ready\n"), walk.estate.hub.log)
    walk.until("all agents are in the metrics", lambda: walk.estate.connected() == len(AUTHORITIES), log=walk.estate.hub.log)
    status, page = walk.estate.get("/metrics")
    samples = walk.reading("metrics", text=page)
    if walk.check:
        total = {}
        for sample in samples:
            total[sample["name"]] = total.get(sample["name"], 0) + sample["value"]
        walk.expect("status of /metrics", status, 200, walk.estate.hub.log)
        expected = {"sfdata_hub_agents_connected": len(AUTHORITIES), "sfdata_hub_build_info": 1, "sfdata_hub_queue_depth": 0,
                    "sfdata_hub_illegal_transitions_total": 0}
        walk.expect("metrics", {name: total.get(name) for name in expected}, expected, walk.estate.hub.log)
        types = {sample["type"] for sample in samples}
        walk.expect("types of metrics", types >= {"counter", "gauge", "histogram"} and "unknown" not in types, True)


STEPS = (start_hub, log_in, make_trust, join_agents, see_fleet, see_services, scale, restart, deploy, run_task,
         see_database_and_buckets, secure_buckets, begin_pipeline, read_logs, refresh, wait_for_absent, hold, lock, deny,
         end_pipeline, *power.STEPS, certificates, audit, measure)


def start_quietly(walk, what):
    """The fleet, without a word: for what needs it and is not the walk."""
    walk.token, walk.certificates, walk.check, walk.step = None, {}, True, what
    for step in (start_hub, log_in, make_trust, join_agents):
        step(walk)


def take(walk):
    """Go through all steps."""
    walk.token, walk.certificates = None, {}
    for number, step in enumerate(STEPS, 1):
        title, _, text = step.__doc__.partition("\n")
        heading = f"{number:2} of {len(STEPS)}  {title}"
        begun = time.monotonic()
        walk.step = heading
        if walk.check:
            step(walk)
            talk.done(f"{heading}: ok ({time.monotonic() - begun:.1f} s)")
        else:
            talk.title(heading)
            talk.tell(text)
            step(walk)
