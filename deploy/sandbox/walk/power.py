"""The walk's steps about power: northshire's Dagster sleeps, and is woken by a file, a person, a command and a schedule.

Times are taken where things happen: arrivals at the store, runs from Dagster's own page, tasks from the stand-in.
"""

import time
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from . import talk
from .estate import TIMEZONE

NORTHSHIRE = ("--agent", "northshire")
CHAIN = ("ingest_ssda903", "clean", "publish")
FILE_KEY, CONTENT, TIDY = "ssda903/2025/outcomes.csv", "CHILD,PLACE  \n\n7,U1\n", "CHILD,PLACE\n7,U1\n"
# Sensors that tick once more, looks that confirm, daemons that stop: on a busy machine that takes minutes. How long is told;
# this only ends a walk on a platform that would never sleep.
ASLEEP_SECONDS = 300
RATIO = 1.15  # of the time to a queued run to the time by hand: told, not judged
# A schedule has to be so far away that it is worth sleeping before it, after what comes until then: a job with its
# sensors, draining, and waking ahead of the tick. All of that takes as long as the machine needs for a wake, and more.
TICK_SECONDS, TICK_WAKES = 160, 11


def by_hand(walk):
    """How long it takes by hand
    For comparison, before northshire's agent is told to do it: everything is stopped, and a script that knows the best
    order starts the same processes past the product, and launches a job as soon as it can."""
    walk.by_hand_s = start_by_hand(walk)
    tell(walk, "by_hand_s", walk.by_hand_s)


def start_by_hand(walk):
    """Seconds from the first start of a process to a queued run, from a platform of which nothing runs."""
    pipeline = walk.pipeline
    for service in pipeline.services():
        pipeline.scale(service, 0)
    walk.until("everything is stopped", pipeline.is_asleep, log=walk.estate.runner.log)
    begun = time.time()
    for service in ("code-server", "webserver"):
        pipeline.scale(service, 1)
    walk.until("the code server runs", lambda: pipeline.services()["code-server"]["running"], log=walk.estate.runner.log,
               pause=0.05)
    pipeline.scale("daemon", 1)
    walk.until("Dagster has loaded its code", lambda: load(pipeline), log=walk.estate.runner.log)
    walk.run_id = pipeline.launch(CHAIN[-1], dataset="ssda903")  # which has no job after it
    run = walk.until("the run is known", lambda: find(pipeline, lambda run: run["runId"] == walk.run_id))
    return run["creationTime"] - begun


def load(pipeline):
    """Whether the code is loaded; where Dagster gave it up, it is told to try again."""
    found = pipeline.location()
    if found == "PythonError":
        pipeline.reload()
        found = pipeline.location()
    return found == "RepositoryLocation"


def fall_asleep(walk):
    """northshire sleeps when there is nothing to do
    Its agent gets a [power] section, and an [arrivals] section with the queue that the data store tells. It waits until
    no run, sensor, schedule, file, command or person needs Dagster; then the daemon goes, Dagster is looked at once more, and
    the rest goes."""
    walk.estate.manage_power()
    walk.until_state("northshire", "connected")
    walk.hubctl("power", "settings", *NORTHSHIRE)
    walk.hubctl("power", "explain", *NORTHSHIRE)
    until_asleep(walk)
    explained = power_of(walk, walk.hubctl("power", "explain", *NORTHSHIRE))
    walk.expect("its reasons, and what it wakes for", lambda: (
        explained["reasons"], explained["faults"], {alarm["kind"] for alarm in explained["alarms"]} >= {"schedule"}),
        ([], [], True))
    for verb in ("status", "runs"):
        answer = walk.hubctl("dagster", verb, *NORTHSHIRE, code=3)
        walk.expect("what asks a Dagster that sleeps", lambda: answer.states(), {"northshire": "failed"})
    walk.expect("it still sleeps", walk.pipeline.is_asleep, True)


def arrive(walk):
    """A file wakes it
    The file is put into the data store, whose event goes to the queue. The agent wakes the platform, launches the job that
    its own configuration names for the file, stays awake for the chained jobs, and lets the platform sleep again."""
    pipeline = walk.pipeline
    put = time.time()
    pipeline.put("data-store", FILE_KEY, CONTENT)
    run = queued_run(walk, FILE_KEY)
    queued = run["creationTime"] - put
    awake = time.time() - put
    walk.hubctl("dagster", "status", *NORTHSHIRE)
    walk.hubctl("power", "explain", *NORTHSHIRE)
    walk.hubctl("arrivals", "list", *NORTHSHIRE)
    walk.until("the file is in the shared bucket", lambda: pipeline.read("shared", FILE_KEY),
               log=walk.estate.runner.log)
    output = time.time() - put
    walk.expect("what was made of it", lambda: pipeline.read("shared", FILE_KEY), TIDY)
    walk.until("all runs have ended", lambda: {run["status"] for run in pipeline.runs() or []} == {"SUCCESS"},
               log=walk.estate.runner.log)
    listed = walk.hubctl("dagster", "runs", *NORTHSHIRE)
    walk.expect("runs since the file was put", lambda: sorted(
        run["jobName"] for run in pipeline.runs() if run["creationTime"] > put), sorted(CHAIN))
    walk.expect("the file's run as hubctl tells it, without its name", lambda: [
        (one["job"], one["status"], "file" in one["tags"])
        for one in listed.targets()["northshire"]["outcome"]["result"]["runs"] if one["id"] == run["runId"]
    ], [(CHAIN[0], "SUCCESS", False)])
    until_asleep(walk)
    tell(walk, "arrival_to_awake_s", awake)
    tell(walk, "arrival_to_queued_s", queued)
    tell(walk, "arrival_to_output_s", output)
    tell(walk, "arrival_to_asleep_s", time.time() - put)
    tell(walk, "by_hand_s", walk.by_hand_s)
    tell(walk, "arrival_to_queued_ratio", queued / walk.by_hand_s, f"(at most {RATIO} is wanted)")


def queued_run(walk, key):
    """The run of a file that has just been put there, on a platform that sleeps. Neither Dagster's page nor
    hubctl is asked before it is awake: they would take of the machine what the wake is measured with."""
    log = walk.estate.agents["northshire"].log
    told = log.stat().st_size
    walk.until("it is awake", lambda: is_told(log, told, "awake"), log=log, pause=0.05)
    return walk.until("the file has a run", lambda: find(walk.pipeline, lambda run: run["tags"].get("file") == key),
                      log=log)


def wake(walk):
    """A person wakes it
    Alice asks for Dagster and gets it for as long as a person does. She has the nightly schedule tick in a few minutes, in
    its own time zone, and says that she needs nothing any more: it sleeps as soon as nothing else does."""
    begun = time.time()
    woken = power_of(walk, walk.hubctl("power", "wake", *NORTHSHIRE, "--reason", "look at a failed run"))
    woken_s = time.time() - begun
    tell(walk, "person_to_awake_s", woken_s)
    walk.expect("what was woken, and why", lambda: (woken["phase"], woken["cause"]), ("awake", "person"))
    walk.expect("everything runs", walk.pipeline.is_awake, True, walk.estate.runner.log)
    away = TICK_SECONDS + TICK_WAKES * woken_s + 60
    walk.tick = (datetime.now(timezone.utc) + timedelta(seconds=away)).replace(second=0, microsecond=0)
    local = walk.tick.astimezone(ZoneInfo(TIMEZONE))
    walk.hubctl("ecs", "set-env", "code-server", f"NIGHTLY_CRON={local.minute} {local.hour} * * *", *NORTHSHIRE,
                "--settle", "1s", "--reason", "tonight it is early")
    walk.hubctl("dagster", "reload", *NORTHSHIRE, "--reason", "the code server is new")
    listed = walk.hubctl("dagster", "schedules", *NORTHSHIRE)
    walk.expect("when it ticks next", lambda: listed.targets()["northshire"]["outcome"]["result"]["schedules"][0]["next_tick"],
                stamp(walk.tick))
    walk.hubctl("power", "sleep", *NORTHSHIRE, "--reason", "seen it")
    walk.expect("nothing is left", walk.pipeline.is_asleep, True, walk.estate.runner.log)


def launch(walk):
    """A command wakes it
    A job is launched on a platform that sleeps: it is woken for that, and the exit code is the run's end."""
    begun = time.time()
    ran = walk.hubctl("dagster", "launch", "publish", "--dataset", "ssda903", "--wait", *NORTHSHIRE,
                      "--reason", "once more")
    walk.expect("how the run ended", lambda: ran.states(), {"northshire": "succeeded"})
    tell(walk, "launch_to_success_s", time.time() - begun)


def tick(walk):
    """A schedule wakes it
    It wakes by itself ahead of the tick that was set before it went to sleep, so that the tick finds a daemon."""
    until_asleep(walk)
    explained = power_of(walk, walk.hubctl("power", "explain", *NORTHSHIRE))
    walk.expect("what it wakes for", lambda: (explained["alarms"][0]["kind"], explained["alarms"][0]["at"]),
                ("schedule", stamp(walk.tick)))
    left = walk.tick.timestamp() - time.time()
    walk.say(f"The tick is at {walk.tick:%H:%M:%SZ}, in {left:.0f} s")
    walk.until("it wakes", lambda: not walk.pipeline.is_asleep(), max(left, 1), walk.estate.agents["northshire"].log)
    tell(walk, "woken_before_tick_s", walk.tick.timestamp() - time.time())
    run = walk.until("the tick has a run", lambda: find(walk.pipeline, of_tick(walk.tick)), log=walk.estate.runner.log)
    tell(walk, "tick_to_queued_s", run["creationTime"] - walk.tick.timestamp())
    walk.until("its run succeeds", lambda: find(walk.pipeline, lambda one: of_tick(walk.tick)(one)
                                                and one["status"] == "SUCCESS"), log=walk.estate.runner.log)
    walk.expect("daemons at once", lambda: walk.pipeline.most_at_once("service:daemon"), 1, walk.estate.runner.log)
    walk.hubctl("power", "status", *NORTHSHIRE)


def of_tick(at):
    """Runs of the nightly schedule for this tick; Dagster writes its time without a fixed form of the offset."""
    return lambda run: (run["tags"].get("dagster/schedule_name") == "nightly"
                        and at.timestamp() <= run["creationTime"] < at.timestamp() + 60)


def find(pipeline, wanted):
    return next((run for run in pipeline.runs() or [] if wanted(run)), None)


def power_of(walk, answer):
    """Of `hubctl power explain`, or of a command on power; nothing on a walk for a person."""
    if not walk.check:
        return None
    given = answer.json
    result = given["northshire"] if "northshire" in given else answer.targets()["northshire"]["outcome"]["result"]
    return result["power"]


def until_asleep(walk):
    """Nothing is left, and the agent knows."""
    begun = time.monotonic()
    walk.until("everything sleeps", walk.pipeline.is_asleep, ASLEEP_SECONDS, walk.estate.agents["northshire"].log)
    walk.until("the hub knows that it sleeps", lambda: phase(walk) == "asleep",
               log=walk.estate.agents["northshire"].log, pause=0.5)
    walk.say(f"Asleep after {time.monotonic() - begun:.0f} s")


def is_told(log, since, phase):
    """Whether the agent's log tells of this phase after its first `since` bytes."""
    with log.open("rb") as file:
        file.seek(since)
        lines = file.read().decode(errors="replace").splitlines()
    return any("the platform's power" in line and f'"{phase}"' in line for line in lines)


def phase(walk):
    """As the agent's health tells it."""
    return (walk.agents()["northshire"]["health"].get("power") or {}).get("phase")


def stamp(at):
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def tell(walk, name, value, more=""):
    """A figure; in a check as well."""
    line = f"{name}: {value:.2f}" + (f" {more}" if more else "")
    talk.say(line)
    walk.note(line, "measured", "", "")


STEPS = (by_hand, fall_asleep, arrive, wake, launch, tick)
