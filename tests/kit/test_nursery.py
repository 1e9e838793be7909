"""Tests of the nursery: `python tests/kit/test_nursery.py`, with the sandbox's virtual environment."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

KIT = Path(__file__).resolve().parent
STANDIN = [sys.executable, "-m", "standin", "--until-stdin-closes", "--ready-file"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(KIT.parents[1] / "deploy/sandbox")}
ACCOUNT = "123456789012"


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Standin:
    def __init__(self, folder, name, nursery):
        ready = Path(folder, name)
        self.process = subprocess.Popen([*STANDIN, str(ready)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        env=ENVIRONMENT | {"SFDATA_STANDIN_NURSERY": nursery})
        wait_for(ready.exists)
        self.url = json.loads(ready.read_text())["url"]

    def control(self, path, **body):
        request = urllib.request.Request(f"{self.url}/standin/{path}", json.dumps(body).encode() if body else None)
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def lives(self):
        try:
            return self.control("ready")["ready"]
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError):
            return False  # also where it ends while it answers


class Nursery(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        # A command that tells where the nursery is, and then what it was asked for.
        self.command = subprocess.Popen(
            [sys.executable, KIT / "nursery.py", "sh", "-c", "echo $SFDATA_STANDIN_NURSERY; read code; exit $code"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.path = self.command.stdout.readline().strip()

    def tearDown(self):
        if self.command.poll() is None:
            self.command.communicate("0\n")

    def standin(self, name):
        standin = Standin(self.folder, name, self.path)
        self.addCleanup(standin.process.wait)
        self.addCleanup(standin.process.stdin.close)
        return standin

    def test_stand_ins_know_nothing_of_each_other_and_end_with_who_asked_for_them(self):
        one, other, third = (self.standin(name) for name in ("one", "other", "third"))
        made = one.control("seed", account=ACCOUNT, la="southby")
        self.assertNotEqual(made["secret_access_key"], other.control("seed", account=ACCOUNT, la="southby")["secret_access_key"])
        self.assertEqual(third.control(f"tasks?account={ACCOUNT}")["tasks"], [])

        one.process.stdin.close()
        self.assertEqual(one.process.wait(), 0)
        self.assertFalse(one.lives())
        other.process.kill()
        wait_for(lambda: not other.lives())
        self.assertTrue(third.lives())

    def test_the_nursery_ends_with_its_command_and_has_its_exit_code(self):
        standin = self.standin("one")
        self.command.communicate("7\n")
        self.assertEqual(self.command.returncode, 7)
        wait_for(lambda: not Path(self.path).exists())
        self.assertTrue(standin.lives())


if __name__ == "__main__":
    unittest.main()
