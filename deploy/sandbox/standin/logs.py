"""CloudWatch Logs as ECS tasks fill it, and as AWS searches it.

A task with the awslogs driver writes to the stream prefix/container/task of its log group; here it says when it starts
and when it ends, and what a test lets it say. moto takes no prefix of stream names, searches streams that are not there,
and orders the events of one stream after the other; AWS orders them by time.
"""

import time

from moto.logs import urls
from moto.logs.exceptions import ResourceNotFoundException
from moto.logs.models import logs_backends
from moto.logs.responses import LogsResponse


class Responses(LogsResponse):
    def _get_param(self, name, if_none=None):
        if name == "interleaved":
            return True
        if name == "logStreamNames" and super()._get_param("logGroupName") in self.logs_backend.groups:
            return self.searched(super()._get_param(name), super()._get_param("logStreamNamePrefix"))
        return super()._get_param(name, if_none)

    def searched(self, names, prefix):
        streams = self.logs_backend.groups[super()._get_param("logGroupName")].streams
        if any(name not in streams for name in names or []):
            raise ResourceNotFoundException("The specified log stream does not exist.")
        if prefix is None:
            return names or []
        # An empty list would be all streams.
        return [name for name in streams if name.startswith(prefix)] or ["no stream"]


def write(task, lines, at=None):
    """Let a task's containers write lines, as the awslogs driver would."""
    account, region = task.cluster_arn.split(":")[4], task.cluster_arn.split(":")[3]
    backend = logs_backends[account][region]
    stamp = int((at or time.time()) * 1000)
    for container in task.definition.container_definitions:
        settings = container.get("logConfiguration") or {}
        options = settings.get("options", {})
        if settings.get("logDriver") != "awslogs" or "awslogs-stream-prefix" not in options:
            continue
        group = options["awslogs-group"]
        if group not in backend.groups:
            backend.create_log_group(group, {})
        stream = f"{options['awslogs-stream-prefix']}/{container['name']}/{task.id}"
        if stream not in backend.groups[group].streams:
            backend.create_log_stream(group, stream)
        backend.put_log_events(group, stream, [{"timestamp": stamp, "message": line} for line in lines])


def install():
    urls.url_paths["{0}/$"] = Responses.dispatch
