"""Accounts whose tasks are real processes: somebody else, the host, runs them and says here what became of them.

Without a host a task ages by itself. In a hosted account it waits as PENDING until its process has been started, runs
until its process has ended, and stops when its process is gone: in each of these three it has no `due`, and only a
report moves it on. The host owns the processes and the stand-in the tasks; each learns the other's part from here alone.
"""

import time

from moto.ecs.models import ecs_backends

from . import REGION, logs

GROUP_STATES = ("PENDING", "RUNNING", "STOPPING")
STOP_TIMEOUT_SECONDS = 30  # ECS's own, where a container names none


def tasks(query):
    """What the host has to run, or to end: a task that is left out needs no process (any more)."""
    backend = ecs_backends[query["account"]][query.get("region", REGION)]
    with backend.lock:
        backend.advance(time.time())
        return {"tasks": [describe(task) for task in backend.live if task.hosted and task.status in GROUP_STATES
                          and task.behaviour.kind == "normal"]}


def describe(task):
    container = task.definition.container_definitions[0]
    over = next((entry for entry in task.overrides.get("containerOverrides") or []
                 if entry.get("name") == container["name"]), {})
    variables = [*(container.get("environment") or []), *(over.get("environment") or [])]
    return {
        "id": task.id, "group": task.group, "wanted": task.desired_status == "RUNNING", "address": task.address,
        "command": [*(container.get("entryPoint") or []), *(over.get("command") or container.get("command") or [])],
        "environment": {entry["name"]: entry["value"] for entry in variables},
        "secrets": {entry["name"]: entry["valueFrom"] for entry in container.get("secrets") or []},
        "role": getattr(task.definition, "task_role_arn", None), "stop_timeout": container.get("stopTimeout") or STOP_TIMEOUT_SECONDS,
    }


def host(body):
    """From now on new tasks of an account are real processes, `but` those of some groups."""
    backend = ecs_backends[body["account"]][body.get("region", REGION)]
    with backend.lock:
        backend.hosted, backend.not_hosted = True, body.get("but", [])
    return {}


def report(body):
    """From the host, of one task: lines that it wrote, and an event. `starting` asks whether it may start the process,
    and the answer holds: the task does not stop any more until `exited` with a code, or `failed` with a reason."""
    backend = ecs_backends[body["account"]][body.get("region", REGION)]
    with backend.lock:
        now, event = time.time(), body.get("event")
        backend.advance(now)
        task = next(task for task in [*backend.live, *backend.stopped] if task.id == body["task"])
        if body.get("lines"):
            logs.write(task, body["lines"], now)
        if event == "starting":
            return {"granted": task.claim()}
        if event == "started":
            task.started(now)
        elif event == "exited":
            task.exited(now, body["exit_code"])
        elif event == "failed":
            task.failed(now, body["reason"])
        if task.service:
            task.service.reconcile(now)
    return {}
