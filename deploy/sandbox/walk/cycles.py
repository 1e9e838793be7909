"""`deploy/sandbox/run --cycles N`: northshire sleeps and wakes N times in a row, while files arrive whenever they like.

Each cycle begins asleep with a file; another comes while it wakes, and in most cycles one while it drains, at an instant of
its own: every tenth of a second of draining has its turn, in an order that the seed decides. The end is judged at the source:
Dagster's runs, the shared bucket, the runner's log, the processes that are left, the agent's log.
"""

import os
import random
import re
import time
from collections import Counter
from pathlib import Path

from . import ground, power, steps, talk
from .deployed import DATASETS
from .walker import Failed

SLOT_SECONDS = 0.1
SLOTS = 80  # draining takes seconds; what comes later finds it asleep
ASK_SECONDS = 2
SILENT_SECONDS = 100  # after so long the heartbeat of the daemon's last life is old
IN_DRAINING = 0.8  # of the cycles
QUIET, SENSOR_SECONDS = "1s", 3
CONTENT, TIDY = "CHILD,PLACE  \n\n7,U1\n", "CHILD,PLACE\n7,U1\n"
PHASE = re.compile(r"the platform's power phase=\"?(\w+)\"? generation")
NOISE = re.compile(r"\x1b\[[0-9;]*m")


class Cycles:
    def __init__(self, walk, count, seed):
        self.walk, self.pipeline, self.count = walk, walk.pipeline, count
        self.random, self.put_at, self.kinds = random.Random(seed), {}, Counter()
        self.slots, self.used, self.waits, self.read = [], set(), [], 0
        self.phases = []
        self.log = walk.estate.agents["northshire"].log

    def put(self, kind):
        """A new file; each has a key of its own."""
        dataset = self.random.choice(DATASETS)
        key = f"{dataset}/cycles/{len(self.put_at):04}-{kind}.csv"
        self.put_at[key] = time.time()
        self.pipeline.put("data-store", key, CONTENT)
        self.kinds[kind] += 1
        return key

    def phase(self):
        """The last one that the agent's log has."""
        with self.log.open() as log:
            log.seek(self.read)
            for line in iter(log.readline, ""):
                if not line.endswith("\n"):
                    break
                self.read += len(line.encode())
                if found := PHASE.search(NOISE.sub("", line)):
                    self.phases.append(found[1])
        return self.phases[-1] if self.phases else "awake"

    def until(self, phase, seconds=240):
        """Awake it looks every 15 s by itself; asked how it is, it looks at once."""
        asked = [time.monotonic()]

        def there():
            if self.phase() == "awake" != phase and time.monotonic() - asked[0] > ASK_SECONDS:
                self.walk.hubctl("power", "status", *steps.NORTHSHIRE, quiet=True)
                asked[0] = time.monotonic()
            return self.phase() == phase

        self.walk.until(f"it is {phase}", there, seconds, self.log, pause=0.02)

    def slot(self):
        if not self.slots:
            self.slots = self.random.sample(range(SLOTS), SLOTS)
        self.used.add(self.slots[-1])
        return self.slots.pop()

    def take(self):
        self.until("asleep")
        for number in range(1, self.count + 1):
            begun = time.monotonic()
            self.asleep()
            time.sleep(self.random.uniform(0, 2))
            first = self.put("asleep")
            self.until("waking", 30)
            time.sleep(self.random.uniform(0, 9))
            self.put("waking")
            self.until("awake")
            self.wait_for_run(first)
            if self.random.random() < IN_DRAINING:
                self.until("draining")
                slot, before = self.slot(), len(self.phases)
                time.sleep((slot + self.random.random()) * SLOT_SECONDS)
                self.put("draining" if self.phase() == "draining" else "just-asleep")
                self.walk.until("it turns back, or wakes", lambda: self.phase() and "waking" in self.phases[before:], 60,
                                self.log, pause=0.02)
            self.until("asleep")
            talk.say(f"cycle {number} of {self.count}: {time.monotonic() - begun:.0f} s, {len(self.put_at)} files")
        self.asleep()
        time.sleep(SILENT_SECONDS)
        self.after_long = self.wait_for_run(self.put("long-asleep"))
        self.until("asleep")
        self.asleep()

    def asleep(self):
        """Asleep is asleep: no task is wanted and no process is left but the database's."""
        self.walk.expect("tasks while asleep", self.pipeline.is_asleep, True, self.log)
        self.walk.expect("processes while asleep", orphans, [], self.walk.estate.runner.log)

    def wait_for_run(self, key):
        run = self.walk.until(f"{key} has a run", lambda: power.find(
            self.pipeline, lambda run: run["tags"].get("file") == key), 60, self.log)
        self.waits.append(run["creationTime"] - self.put_at[key])
        return self.waits[-1]

    def judge(self):
        """All of it, with figures; false where anything is amiss."""
        walk = self.walk
        walk.hubctl("power", "wake", *steps.NORTHSHIRE, "--reason", "to judge")
        status = walk.hubctl("dagster", "status", *steps.NORTHSHIRE).targets()["northshire"]["outcome"]["result"]
        runs = self.pipeline.runs(10_000)
        of_file = Counter(run["tags"].get("file") for run in runs if "sfdata/arrival" in run["tags"])
        arrivals = Counter(run["tags"]["sfdata/arrival"] for run in runs if "sfdata/arrival" in run["tags"])
        text = NOISE.sub("", self.log.read_text())
        listed = walk.hubctl("arrivals", "list", *steps.NORTHSHIRE).targets()["northshire"]["outcome"]["result"]
        amiss = {
            "files_without_a_run": sum(of_file[key] == 0 for key in self.put_at),
            "files_with_several_runs": sum(of_file[key] > 1 for key in self.put_at),
            "arrivals_with_several_runs": sum(count > 1 for count in arrivals.values()),
            "runs_not_successful": sum(run["status"] != "SUCCESS" for run in runs),
            "files_without_output": sum(self.pipeline.read("shared", key) != TIDY for key in self.put_at),
            "chains_broken": sum(not is_whole(runs, dataset) for dataset in DATASETS),
            "arrivals_left": listed["waiting_count"] + listed["parked_count"],
            "daemons_beyond_one": self.pipeline.most_at_once("service:daemon") - 1,
            "locations_not_loaded": sum(one["state"] != "loaded" for one in status["locations"]),
            "tasks_killed": sum(entry.get("exit_code") == 137 for entry in self.pipeline.processes()),
            "agent_log_errors": len(re.findall(r"^\S+ +ERROR ", text, re.M)),
            "faults": len((walk.agents()["northshire"]["health"].get("power") or {}).get("faults") or []),
        }
        wakes, waits = self.phases.count("asleep"), sorted(self.waits)
        turned = sum(pair == ("draining", "waking") for pair in zip(self.phases, self.phases[1:]))
        figures = {
            "cycles": self.count, "sleeps": wakes, "drains_turned_back": turned, "files": len(self.put_at),
            **{f"files_while_{kind.replace('-', '_')}": count for kind, count in sorted(self.kinds.items())},
            "slots_of_draining": len(self.used), "runs": len(runs),
            "arrival_to_queued_p50_s": round(waits[len(waits) // 2], 2), "arrival_to_queued_max_s": round(waits[-1], 2),
            "long_asleep_arrival_to_queued_s": round(self.after_long, 2),
            "agent_log_warnings": len(re.findall(r"^\S+ +WARN ", text, re.M)), **amiss}
        for name, value in figures.items():
            talk.say(f"{name}: {value}")
        if bad := {name: value for name, value in amiss.items() if value}:
            raise Failed("nothing is lost, doubled or left", {}, bad, self.log)


def is_whole(runs, dataset):
    """The last ingest of a dataset was cleaned, and that was published: sensors ask for the last one alone."""
    key = None
    for job in (f"ingest_{dataset}", "clean", "publish"):
        done = [run for run in runs if run["jobName"] == job and run["tags"].get("dataset") == dataset
                and run["status"] == "SUCCESS" and key in (None, run["tags"].get("dagster/run_key"))]
        if not done:
            return not any(run["jobName"] == f"ingest_{dataset}" for run in runs)
        key = done[0]["runId"]
    return True


def orphans():
    """Processes of tasks: whoever works in the folder that they are started in."""
    home, found = str(ground.STATE / "northshire" / "tasks" / "dagster"), []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd").startswith(home):
                found.append((entry / "cmdline").read_text().replace("\0", " ").strip())
        except OSError:
            pass
    return found


def take(walk, count, seed):
    """The fleet, quietly; the cycles; the judgement."""
    walk.estate.variables["SENSOR_MIN_INTERVAL"] = str(SENSOR_SECONDS)
    steps.start_quietly(walk, f"{count} cycles")
    walk.estate.manage_power(quiet=QUIET)
    cycles = Cycles(walk, count, seed)
    talk.say(f"{count} cycles, seed {seed}")
    try:
        cycles.take()
    except Failed as failed:
        talk.complain(f"after {cycles.phases.count('asleep')} sleeps, files: {dict(cycles.kinds)}; phases {cycles.phases[-6:]}")
        raise failed
    cycles.judge()
