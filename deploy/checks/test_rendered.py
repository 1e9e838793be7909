"""What the templates render is what the programs read: the agent's configuration has its keys, Dagster's is YAML with what the
launcher needs. Written out by both, a name that one of them does not know would be found only in an account."""

from __future__ import annotations

import json
import re
import tomllib
import unittest
from typing import Any

import yaml

from .estate import Estate
from .reach import ESTATES
from .template import HERE, load

TEMPLATES = {template.name: template for template in load()}
ADOPTED = {"Storage": "adopted", "DataStore": "in", "Workspace": "w", "Shared": "out", "Backup": "kept", "AccessLogs": "logs",
           "ReplicationRole": "arn:aws:iam::222222222222:role/r", "KmsKey": "arn:aws:kms:eu-west-2:222222222222:key/1",
           "Cluster": "old", "CodeServers": "one,two", "OtherServices": "frontend", "Database": "instance", "Bill": "yes",
           "CoreReader": "arn:aws:iam::111111111111:role/reader", "MoreToml": '[[arrivals.rule]]\nprefix = "cin/"\njob = "ingest_cin"'}


def variables(given: dict[str, Any], template: str) -> dict[str, dict[str, str]]:
    """The plain variables of each container, by its name."""
    stacks, usual = ESTATES["own"]
    estate = Estate([TEMPLATES[name] for name in stacks], usual | given)
    found = {}
    for name, task in estate.resources("AWS::ECS::TaskDefinition"):
        if name.startswith(f"child/{template}.yaml"):
            for container in task["ContainerDefinitions"]:
                found[container["Name"]] = {one["Name"]: str(one["Value"]) for one in container["Environment"]}
    return found


def keys(section: dict[str, Any], above: str = "") -> set[str]:
    found = set()
    for key, value in section.items():
        for one in value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]:
            found |= keys(one, f"{above}{key}.") if isinstance(one, dict) else {f"{above}{key}"}
    return found


def known() -> set[str]:
    """Every key of the commented example, those behind a mark as well."""
    text = (HERE / "config/agent.toml").read_text()
    return keys(tomllib.loads(re.sub(r"(?m)^#: ", "", text)))


class Rendered(unittest.TestCase):
    def agent(self, **given: str) -> dict[str, Any]:
        return tomllib.loads(variables(given, "agent")["agent"]["SFDATA_AGENT_TOML"])

    def test_the_agent_knows_every_key(self) -> None:
        for given in ({}, {"Copies": "yes"}, ADOPTED, {"Sleep": "no", "ArrivalsQueue": ""}):
            unknown = keys(self.agent(**given)) - known() - {"platform.database_instance"}
            self.assertEqual(unknown, set(), given)

    def test_a_new_platform(self) -> None:
        config = self.agent()
        self.assertEqual(config["join"]["agent"], "camden")
        self.assertEqual((config["join"]["trust_domain"], config["join"]["ca_pin"], config["join"]["root_pin"]), ("a", "b", "c"))
        self.assertTrue(config["join"]["address"].endswith(":7443") and config["join"]["enrol_address"].endswith(":7444"), config["join"])
        self.assertEqual(config["platform"]["cluster"], "sfdata")
        self.assertEqual(config["platform"]["code_servers"], ["code-server"])
        self.assertNotIn("other_services", config["platform"])
        self.assertNotIn("backup", config["platform"]["buckets"])
        self.assertEqual(config["arrivals"]["queue"], "arn:aws:sqs:eu-west-2:222222222222:sfdata-arrivals")
        self.assertEqual(config["power"], {})

    def test_an_adopted_one(self) -> None:
        config = self.agent(**ADOPTED)
        self.assertEqual(config["platform"]["code_servers"], ["one", "two"])
        self.assertEqual(config["platform"]["other_services"], ["frontend"])
        self.assertEqual(config["platform"]["database_instance"], "sfdata")
        self.assertEqual(config["platform"]["buckets"]["backup"], "kept")
        self.assertEqual(config["platform"]["storage"]["kms_key"], ADOPTED["KmsKey"])
        self.assertEqual(config["arrivals"]["rule"], [{"prefix": "cin/", "job": "ingest_cin"}])
        self.assertTrue(config["usage"]["bill"])
        self.assertNotIn("code_servers", self.agent(**ADOPTED | {"CodeServers": ""})["platform"])

    def test_the_cores_agent_sees_the_cores_repositories(self) -> None:
        self.assertNotIn("images", self.agent())
        config = self.agent(Images="region")
        self.assertEqual(keys(config) - known(), set())
        core = Estate([TEMPLATES["core/ecr.yaml"]], {"OrganizationId": "o", "Prefix": "region"})
        made = [properties["RepositoryName"] for _, properties in core.resources("AWS::ECR::Repository")]
        self.assertCountEqual(config["images"]["repositories"], made)

    def test_page_and_daemon_are_of_one_mind(self) -> None:
        found = variables({}, "dagster")
        self.assertEqual(found["webserver"]["DAGSTER_YAML"], found["daemon"]["DAGSTER_YAML"])
        launcher = yaml.safe_load(found["daemon"]["DAGSTER_YAML"])["run_launcher"]["config"]
        network = launcher["run_task_kwargs"]["networkConfiguration"]["awsvpcConfiguration"]
        self.assertEqual(len(network["subnets"]), 2)
        self.assertEqual(network["assignPublicIp"], "DISABLED")
        location = yaml.safe_load(found["daemon"]["WORKSPACE_YAML"])["load_from"][0]["grpc_server"]
        self.assertEqual(location, {"host": "code-server", "port": 4000, "location_name": "sfdata_pipelines"})

    def test_no_secret_is_a_plain_variable(self) -> None:
        for template in ("agent", "dagster"):
            for container in variables({}, template).values():
                self.assertNotIn("DAGSTER_PG_PASSWORD", container)
                self.assertNotRegex(json.dumps(container), r"resolve:|BEGIN|password: [^{]")


if __name__ == "__main__":
    unittest.main()
