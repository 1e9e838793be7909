"""Tests of the runner, with shells in place of Dagster: `PYTHONPATH=deploy/sandbox python -m unittest runner.test_runner`.

One stand-in and one runner serve all tests but the one that kills the runner; each test has a service of its own.
What is asserted is told by ECS and by the process table, not by the runner.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

from standin import test_standin
from standin.test_standin import Estate, wait_for

from .names import Name
from .standin import Unreachable
from .tasks import Job

PULL_SECONDS = 0.5


def setUpModule():
    test_standin.setUpModule()


def tearDownModule():
    test_standin.tearDownModule()


class Hosted(Estate):
    """A hosted account whose seeded services are off, and its runner."""

    def __init__(self):
        super().__init__(hosted=True)
        for name in ("daemon", "code-server"):
            self.update(name, desiredCount=0)
        self.folder = tempfile.TemporaryDirectory()
        self.home = Path(self.folder.name, "home")
        facts, ready = (Path(self.folder.name, name) for name in ("facts.json", "ready.json"))
        facts.write_text(json.dumps(self.facts | {"password": self.facts["secret"], "database": "database", "image": {}}))
        self.log = Path(self.folder.name, "runner.log").open("w+")
        self.runner = subprocess.Popen(
            [sys.executable, "-m", "runner", "--standin", test_standin.url, "--facts", facts, "--home", self.home,
             "--ready-file", ready, "--pull-seconds", str(PULL_SECONDS)],
            cwd=Path(__file__).parents[1], stdout=self.log, stderr=subprocess.STDOUT)
        wait_for(lambda: ready.exists() or self.runner.poll() is not None, 30)
        assert self.runner.poll() is None, Path(self.log.name).read_text()

    def end(self):
        self.runner.terminate()
        code = self.runner.wait(20)
        self.log.close()
        self.folder.cleanup()
        return code

    def start(self, name, script, **container):
        """A service of one task, which runs a script of the shell."""
        family = self.ecs.register_task_definition(
            family=name, networkMode="awsvpc", cpu="256", memory="512", requiresCompatibilities=["FARGATE"],
            containerDefinitions=[{"name": "main", "image": "any:1", "command": ["sh", "-c", script], **container}])
        self.ecs.create_service(
            cluster=self.cluster, serviceName=name, desiredCount=1, launchType="FARGATE",
            taskDefinition=family["taskDefinition"]["taskDefinitionArn"],
            deploymentConfiguration={"minimumHealthyPercent": 0, "maximumPercent": 100},
            networkConfiguration={"awsvpcConfiguration": self.facts["network"]})

    def running(self, name):
        return wait_for(lambda: [task for task in self.tasks(serviceName=name) if task["lastStatus"] == "RUNNING"])[0]

    def stopped(self, name, count=1):
        return wait_for(lambda: (over := self.tasks(serviceName=name, desiredStatus="STOPPED"))
                        and [task for task in over if task["lastStatus"] == "STOPPED"][count - 1:])

    def processes(self):
        """Everything that has this runner's folder as its home, its database among them."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and str(self.home) in (entry / "cmdline").read_text() + os.readlink(entry / "cwd"):
                    found.append(int(entry.name))
            except OSError:
                pass
        return [pid for pid in found if pid != self.runner.pid]

    def written(self, task):
        events = self.client("logs").filter_log_events(logGroupName=self.facts["log_group"])["events"]
        return [event["message"] for event in events if event["logStreamName"].endswith(task["taskArn"].split("/")[-1])]


class Tasks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.estate = Hosted()

    @classmethod
    def tearDownClass(cls):
        code = cls.estate.end()
        assert code == 0, code

    def test_a_task_runs_when_its_process_does_on_its_own_address(self):
        server = [sys.executable, "-m", "http.server", "--bind", "0.0.0.0", "3000"]
        self.estate.start("server", None, command=server)
        task = self.estate.running("server")
        address = task["attachments"][0]["details"][-1]["value"]
        wait_for(lambda: self.answers(f"http://{address}:3000/"))
        self.assertGreaterEqual((task["startedAt"] - task["createdAt"]).total_seconds(), PULL_SECONDS)
        self.estate.update("server", desiredCount=0)
        self.assertEqual(self.estate.stopped("server")[0]["stopCode"], "ServiceSchedulerInitiated")
        self.assertFalse(self.answers(f"http://{address}:3000/"))

    def answers(self, page):
        try:
            return urllib.request.urlopen(page, timeout=1).status == 200
        except OSError:
            return False

    def test_sigterm_first_and_sigkill_after_the_stop_timeout(self):
        marks = {name: self.estate.home.parent / name for name in ("polite", "deaf")}
        self.estate.start("polite", f"trap 'exit 7' TERM; touch {marks['polite']}; while true; do sleep 0.1; done",
                          stopTimeout=20)
        self.estate.start("deaf", f"trap '' TERM; touch {marks['deaf']}; while true; do sleep 0.1; done", stopTimeout=2)
        for name, code, least in (("polite", 7, 0), ("deaf", 137, 2)):
            self.estate.running(name)
            wait_for(marks[name].exists)
            self.estate.update(name, desiredCount=0)
            [task] = self.estate.stopped(name)
            self.assertEqual(task["containers"][0]["exitCode"], code)
            self.assertGreaterEqual((task["stoppedAt"] - task["stoppingAt"]).total_seconds(), least)

    def test_a_process_that_dies_is_told_and_replaced(self):
        self.estate.start("dies", "sleep 0.3; exit 3")
        tasks = self.estate.stopped("dies", 2)
        self.assertEqual({task["containers"][0]["exitCode"] for task in tasks}, {3})
        self.assertEqual({task["stopCode"] for task in tasks}, {"EssentialContainerExited"})
        self.estate.update("dies", desiredCount=0)

    def test_two_never_run_side_by_side_where_100_per_cent_is_the_most(self):
        mark = self.estate.home.parent / "alone"
        self.estate.start("alone", f"mkdir {mark} || exit 9; trap 'sleep 0.4; rmdir {mark}; exit 0' TERM; "
                                   "while true; do sleep 0.05; done")
        for _ in range(3):
            self.estate.running("alone")
            time.sleep(0.2)
            self.estate.update("alone", forceNewDeployment=True)
            wait_for(lambda: self.estate.completed("alone"))
        self.estate.update("alone", desiredCount=0)
        self.assertEqual({task["containers"][0]["exitCode"] for task in self.estate.stopped("alone", 4)}, {0})

    def test_what_is_stopped_while_it_is_pulled_never_starts(self):
        mark = self.estate.home.parent / "early"
        self.estate.start("early", f"touch {mark}; sleep 100")
        wait_for(lambda: [task for task in self.estate.tasks(serviceName="early") if task["lastStatus"] == "PENDING"])
        self.estate.update("early", desiredCount=0)
        [task] = self.estate.stopped("early")
        time.sleep(2 * PULL_SECONDS)
        self.assertFalse(mark.exists())
        self.assertNotIn("startedAt", task)

    def test_a_secret_is_a_variable_and_lines_are_the_log(self):
        group = {"logDriver": "awslogs", "options": {
            "awslogs-group": self.estate.facts["log_group"], "awslogs-stream-prefix": "main"}}
        secret = [{"name": "WORD", "valueFrom": self.estate.facts["secret"]}]
        self.estate.start("talks", "echo $WORD | wc -c; sleep 100", secrets=secret, logConfiguration=group)
        task = self.estate.running("talks")
        wait_for(lambda: "22" in self.estate.written(task))
        self.estate.start("mute", "sleep 100", secrets=[{"name": "WORD", "valueFrom": secret[0]["valueFrom"] + "x"}])
        self.assertEqual(self.estate.stopped("mute")[0]["stopCode"], "TaskFailedToStart")
        for name in ("talks", "mute"):
            self.estate.update(name, desiredCount=0)

    def test_a_task_of_its_own_runs_what_it_is_told(self):
        self.estate.start("one-off", "sleep 100")
        self.estate.update("one-off", desiredCount=0)
        [task] = self.estate.ecs.run_task(
            cluster=self.estate.cluster, taskDefinition="one-off", launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": self.estate.facts["network"]},
            overrides={"containerOverrides": [{"name": "main", "command": ["sh", "-c", "exit $CODE"],
                                               "environment": [{"name": "CODE", "value": "5"}]}]})["tasks"]

        def over():
            [seen] = self.estate.ecs.describe_tasks(cluster=self.estate.cluster, tasks=[task["taskArn"]])["tasks"]
            return seen["lastStatus"] == "STOPPED" and seen

        self.assertEqual(wait_for(over)["containers"][0]["exitCode"], 5)


class Unheard:
    """A stand-in that does not hear the first of each event, and grants everything."""

    def __init__(self):
        self.asked, self.heard = [], []

    def credentials(self, role):
        return {}

    def report(self, _, event=None, **more):
        self.asked.append(event)
        if event and self.asked.count(event) == 1:
            raise Unreachable(event)
        self.heard.append(event)
        return {"granted": True}


class Hearsay(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        task = {"id": "one", "group": "service:one", "address": "127.0.0.2", "secrets": {}, "role": None, "stop_timeout": 2}
        home = SimpleNamespace(command=lambda *_: (["sleep", "100"], dict(os.environ), folder.name))
        self.standin, self.wanted, self.unwanted = Unheard(), {"wanted": True}, {"wanted": False}
        self.job = Job(task, 0, home, self.standin, Path(folder.name))

    def step(self, task):
        with contextlib.suppress(Unreachable):
            return self.job.move(task)

    def test_what_was_not_heard_is_told_again(self):
        for _ in range(3):
            self.step(self.wanted)
        self.assertEqual(self.standin.heard, ["starting", "started"])
        self.assertIsNone(self.job.process.poll())
        wait_for(lambda: self.step(self.unwanted))
        self.assertEqual(self.standin.heard, ["starting", "started", "exited"])

    def test_what_may_have_been_granted_and_is_wanted_no_more_is_told_to_have_failed(self):
        self.step(self.wanted)
        self.assertFalse(self.step(self.unwanted))
        self.assertTrue(self.step(self.unwanted))
        self.assertEqual(self.standin.heard, ["failed"])


class Death(unittest.TestCase):
    def test_a_signal_that_comes_while_a_process_is_started_ends_the_runner(self):
        estate = Hosted()
        estate.fault("hang", service="secretsmanager", action="GetSecretValue", seconds=1)
        estate.start("late", "sleep 100", secrets=[{"name": "WORD", "valueFrom": estate.facts["secret"]}])
        wait_for(lambda: estate.calls(service="secretsmanager", action="GetSecretValue", faults=1)["calls"])
        self.assertEqual(estate.end(), 0)
        self.assertFalse(estate.processes())

    def test_nothing_outlives_a_runner_that_is_killed(self):
        estate = Hosted()
        estate.start("deaf", "trap '' TERM; while true; do sleep 0.1; done")
        estate.running("deaf")
        wait_for(lambda: len(estate.processes()) > 3)  # the shell, and PostgreSQL's
        estate.runner.send_signal(signal.SIGKILL)
        self.assertEqual(estate.runner.wait(), -signal.SIGKILL)
        wait_for(lambda: not estate.processes())
        estate.log.close()
        estate.folder.cleanup()


class Names(unittest.TestCase):
    def test_a_connection_goes_to_the_first_that_takes_it(self):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        server, name = HTTPServer(("127.0.0.1", 0), Handler), Name()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        name.targets = [("127.0.0.1", 1), ("127.0.0.1", server.server_port)]
        with urllib.request.urlopen(f"http://127.0.0.1:{name.port}/") as reply:
            self.assertEqual(reply.status, 204)
        server.shutdown()
        server.server_close()
        with self.assertRaises(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{name.port}/", timeout=2)


if __name__ == "__main__":
    unittest.main()
