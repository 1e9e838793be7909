"""That what judges the cycles sees what it is to see."""

import json
import tempfile
import types
import unittest
from pathlib import Path

from .cycles import is_whole
from .pipeline import Pipeline


def run(job, run_id, key=None, status="SUCCESS"):
    tags = {"dataset": "cin"} | ({"dagster/run_key": key} if key else {})
    return {"jobName": job, "runId": run_id, "status": status, "tags": tags}


class Chains(unittest.TestCase):
    """Runs are told newest first."""

    INGEST, CLEAN, PUBLISH = run("ingest_cin", "a"), run("clean", "b", "a"), run("publish", "c", "b")

    def test_all_three_jobs_are_a_chain(self):
        self.assertTrue(is_whole([self.PUBLISH, self.CLEAN, self.INGEST], "cin"))

    def test_no_ingest_wants_no_chain(self):
        self.assertTrue(is_whole([], "cin"))

    def test_a_job_that_is_missing_failed_or_is_of_an_older_ingest_breaks_it(self):
        newer = run("ingest_cin", "d")
        for runs in ([self.INGEST], [self.CLEAN, self.INGEST], [newer, self.PUBLISH, self.CLEAN, self.INGEST],
                     [run("publish", "c", "b", "FAILURE"), self.CLEAN, self.INGEST]):
            self.assertFalse(is_whole(runs, "cin"), runs)


class Daemons(unittest.TestCase):
    def most(self, *entries):
        lines = [json.dumps({"event": event, "group": group, "task": task}) for event, group, task in entries]
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "runner.log"
            log.write_text("not one of them\n" + "\n".join(lines))
            estate = types.SimpleNamespace(runner=types.SimpleNamespace(log=log))
            return Pipeline(estate).most_at_once("service:daemon")

    def test_one_after_the_other_is_one_at_once(self):
        self.assertEqual(self.most(("start", "service:daemon", 1), ("end", "service:daemon", 1),
                                   ("start", "service:daemon", 2), ("start", "service:webserver", 3)), 1)

    def test_two_side_by_side_are_seen(self):
        self.assertEqual(self.most(("start", "service:daemon", 1), ("start", "service:daemon", 2)), 2)
