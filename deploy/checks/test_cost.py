"""The cost sheet sees what the templates have more of, and fails when the promise is broken."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import unittest

from . import cost
from .template import load

TEMPLATES = load()


def run(*arguments: str) -> tuple[int, str]:
    """Its exit code, and all that it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = cost.main(list(arguments), TEMPLATES)
    return code, said.getvalue()


def months(*arguments: str) -> dict[tuple[str, str], float]:
    document = json.loads(run("--json", *arguments)[1].splitlines()[0])
    return {(month["network"], month["use"]): month["sum"] for month in document["months"]}


class Cost(unittest.TestCase):
    def test_the_promise_is_kept_and_the_sum_is_that_of_its_lines(self) -> None:
        code, said = run("--json")
        self.assertEqual(code, 0, said)
        for month in json.loads(said.splitlines()[0])["months"]:
            self.assertAlmostEqual(month["sum"], sum(line["sum"] for line in month["lines"]), delta=0.02)

    def test_an_agent_on_demand_breaks_it(self) -> None:
        code, said = run("--set", "Capacity=FARGATE")
        self.assertEqual(code, 1)
        self.assertIn("more than the 12.00", said)

    def test_as_many_las_as_it_says_are_enough_and_one_less_is_not(self) -> None:
        _, said = run()
        least = int(said.rpartition("from ")[2].split()[0])
        self.assertEqual(run("--las", str(least))[0], 0)
        self.assertEqual(run("--las", str(least - 1))[0], 1)

    def test_endpoints_in_two_zones_are_twice_as_many(self) -> None:
        one, two = months(), months("--set", "EndpointZones=two")
        self.assertGreater(two["own", "asleep"] - one["own", "asleep"], 70)
        self.assertEqual(two["shared", "asleep"], one["shared", "asleep"])

    def test_a_plain_instance_is_paid_for_while_it_sleeps(self) -> None:
        aurora, instance = months(), months("--set", "Database=instance")
        self.assertGreater(instance["shared", "asleep"], aurora["shared", "asleep"])
        self.assertLess(instance["shared", "always on"], aurora["shared", "always on"])

    def test_a_key_more_is_a_dollar_more(self) -> None:
        templates, p = copy.deepcopy(TEMPLATES), cost.prices()

        def asleep() -> float:
            estate = cost.estates(templates, {})["shared"]
            return sum(line.sum for line in cost.sheet(estate, cost.USES[0], 10, 20, p))

        before = asleep()
        next(one for one in templates if one.name == "child/storage.yaml").resources["Planted"] = {"Type": "AWS::KMS::Key"}
        self.assertAlmostEqual(asleep() - before, p["kms_key_month"])

    def test_a_parameter_that_is_not_there(self) -> None:
        with self.assertRaisesRegex(SystemExit, "no template of an LA has the parameter Capcity"):
            run("--set", "Capcity=FARGATE")


if __name__ == "__main__":
    unittest.main()
