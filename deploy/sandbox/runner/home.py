"""The image that northshire's tasks start from: DAGSTER_HOME with dagster.yaml and workspace.yaml, and what a process sees.

Two things differ from AWS and are translated here, so that the task definitions can be those of production: a task has
no network of its own, so that 0.0.0.0 means the task's own address; and its role's credentials are variables.
"""

import json
import os
import sys
from pathlib import Path

from . import postgres

PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"
PASSWORD = "DAGSTER_PG_PASSWORD"
RUNS_AT_ONCE = 4


class Home:
    def __init__(self, folder, facts, credentials, database_port, code_server_port):
        self.folder, self.credentials = Path(folder), credentials
        self.folder.mkdir(mode=0o700)
        self.write("workspace.yaml", {"load_from": [{"grpc_server": {
            "host": "127.0.0.1", "port": code_server_port, "location_name": "sfdata_pipelines"}}]})
        self.write("dagster.yaml", {
            "storage": {"postgres": {"postgres_db": {
                "hostname": "127.0.0.1", "port": database_port, "username": postgres.USER,
                "password": {"env": PASSWORD}, "db_name": postgres.DATABASE}}},
            "run_launcher": {"module": "dagster_aws.ecs", "class": "EcsRunLauncher", "config": launcher(facts)},
            "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator",
                                "config": {"max_concurrent_runs": RUNS_AT_ONCE, "dequeue_interval_seconds": 1}},
            "telemetry": {"enabled": False}})

    def write(self, name, value):
        (self.folder / name).write_text(json.dumps(value, indent=1) + "\n")  # JSON is YAML

    def command(self, task):
        """The command line and the variables of a task's process."""
        command = [task["address"] if part == "0.0.0.0" else part for part in task["command"]]
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return command, {
            **kept, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "PYTHONPATH": str(PIPELINES), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
            **task["environment"], **self.credentials, "DAGSTER_HOME": str(self.folder)}


def launcher(facts):
    """Runs as tasks of their own, as in AWS; nobody outside ECS can ask for 'the current task'."""
    places = [f"{kind.replace('-', '_').upper()}=s3://{bucket}" for kind, bucket in facts["buckets"].items()]
    return {
        "use_current_ecs_task_config": False,
        "task_definition": {"log_group": facts["log_group"], "execution_role_arn": facts["role_arn"],
                            "task_role_arn": facts["role_arn"], "requires_compatibilities": ["FARGATE"]},
        "run_resources": {"cpu": "1024", "memory": "4096"},
        "env_vars": places, "secrets": [{"name": PASSWORD, "valueFrom": facts["secret"]}], "secrets_tag": None,
        "run_task_kwargs": {"cluster": facts["cluster"], "launchType": "FARGATE", "networkConfiguration": {
            "awsvpcConfiguration": {"subnets": facts["network"]["subnets"],
                                    "securityGroups": facts["network"]["securityGroups"],
                                    "assignPublicIp": "DISABLED"}}}}
