"""ECS with a life cycle: services own tasks, tasks take time, deployments roll.

moto keeps an ECS service as a record without tasks. Here each account and region is a small event simulation:
a task knows when its next step is due, and every API call first replays, in order of time, all steps up to now.
(Only `hosting` tells of tasks that are real processes; those wait for its word instead.)
Nothing runs between calls, so an idle account costs nothing and a call sees what a ticking clock would have made.
Invariants: one lock per account and region, held for a whole call; `live` holds every task that is not STOPPED;
a service's first deployment is PRIMARY and the others drain; a task that is stopping still takes its place, so
that with at most 100 per cent two tasks never overlap.
"""

import hashlib
import itertools
import json
import math
import os
import random
import threading
import time
import uuid
from collections import deque

from moto.core.responses import ActionResult
from moto.ecs import models, urls
from moto.ecs.exceptions import EcsClientException, ECSException, InvalidParameterException
from moto.ecs.responses import EC2ContainerServiceResponse

from . import logs
from .behaviour import NO_CAPACITY, START_FAILURES, TIMING, Behaviour

# Fields of CreateService and UpdateService that DescribeServices gives back as they came.
SHAPING = ("launchType", "capacityProviderStrategy", "platformVersion", "networkConfiguration",
           "loadBalancers", "serviceRegistries", "serviceConnectConfiguration")  # a change of one of these makes a new deployment
KEPT = SHAPING + ("deploymentConfiguration", "healthCheckGracePeriodSeconds", "schedulingStrategy", "propagateTags",
                  "deploymentController", "enableECSManagedTags", "enableExecuteCommand",
                  "availabilityZoneRebalancing")
STOPPED_TASKS_KEPT = 500
EVENTS_KEPT = 100
CIRCUIT_BREAKER_FAILURES = (3, 200)  # ECS trips at half the desired count, within these bounds

# 127.64.0.0/16: every task gets an address that is reachable on loopback. Stand-ins beside each other begin apart.
addresses = itertools.count(os.getpid() * 97)


class Task:
    def __init__(self, backend, cluster, definition, at, *, group, started_by, settings, tags, service=None,
                 deployment=None, overrides=None, provider=None):
        self.id = uuid.uuid4().hex
        self.cluster_arn = cluster.arn
        self.task_arn = task_arn(cluster, self.id)
        self.definition, self.group, self.started_by, self.tags = definition, group, started_by, tags
        self.settings, self.service, self.deployment, self.overrides = settings, service, deployment, overrides or {}
        self.provider = provider
        self.timing, self.behaviour = backend.timing, backend.behaviour(cluster, group, definition, provider)
        self.status, self.desired_status, self.settled, self.hosted = "PROVISIONING", "RUNNING", False, backend.hosts(group)
        self.claimed = False  # its host is starting its process, or has
        self.created_at, self.started_at, self.stopping_at, self.stopped_at = at, None, None, None
        self.stop_code = self.stopped_reason = self.exit_code = None
        self.due = at + self.timing.start_seconds / 2
        number = next(addresses)
        self.address = f"127.64.{number >> 8 & 255}.{number & 255}"

    def step(self):
        at, self.due = self.due, None
        start, stop = self.timing.start_seconds, self.timing.stop_seconds
        if self.status == "PROVISIONING":
            self.status = "PENDING"
            if self.behaviour.kind in START_FAILURES or not self.hosted and self.behaviour.kind != "never-starts":
                self.due = at + start / 2
        elif self.status == "PENDING" and self.behaviour.kind in START_FAILURES:
            reason = START_FAILURES[self.behaviour.kind].format(
                image=self.definition.container_definitions[0]["image"], role=self.definition.execution_role_arn)
            self.stop(at, "TaskFailedToStart", reason)
        elif self.status == "PENDING":
            self.status, self.started_at = "RUNNING", at
            logs.write(self, [f"{self.group} starts"], at)
            if self.behaviour.kind == "crashes":
                self.due = at + (start / 8 if self.behaviour.run_seconds is None else self.behaviour.run_seconds)
            elif self.service:
                self.due = at + start / 4
            else:
                seconds = self.behaviour.run_seconds
                self.due = at + (self.timing.run_seconds if seconds is None else seconds)
        elif self.status == "RUNNING" and self.service and self.behaviour.kind != "crashes":
            self.settled = True
        elif self.status == "RUNNING":
            self.exit_code = 1 if self.behaviour.kind == "crashes" else self.behaviour.exit_code
            logs.write(self, [f"{self.group} ends with {self.exit_code}"], at)
            self.stop(at, "EssentialContainerExited", "Essential container in task exited")
        elif self.status == "STOPPING":
            self.status, self.exit_code, self.due = "DEPROVISIONING", 143, at + stop / 2
        else:
            self.status, self.stopped_at = "STOPPED", at

    def free(self, at):
        """What kept it from starting is gone, or would have kept it."""
        if self.status not in ("PROVISIONING", "PENDING") or self.behaviour.kind != "never-starts":
            return
        self.behaviour = Behaviour()
        if self.status == "PENDING" and not self.hosted:
            self.due = at + self.timing.start_seconds / 2

    def claim(self):
        """Its host is about to start its process: from now on it does not stop before that has ended."""
        self.claimed = self.status == "PENDING"
        return self.claimed

    def started(self, at):
        """Its host has started its process."""
        if self.status == "PENDING":
            self.status, self.started_at = "RUNNING", at
            self.due = at + self.timing.start_seconds / 4 if self.service else None

    def exited(self, at, code):
        """Its host's process has ended, by itself or because it was told to."""
        if self.status == "STOPPING":
            self.status, self.exit_code, self.due = "DEPROVISIONING", code, at + self.timing.stop_seconds / 2
        elif self.status == "RUNNING":
            self.exit_code = code
            self.stop(at, "EssentialContainerExited", "Essential container in task exited")

    def failed(self, at, reason):
        """Its host could not start its process."""
        self.claimed = False
        if self.status == "STOPPING":
            self.status, self.due = "DEPROVISIONING", at + self.timing.stop_seconds / 2
        self.stop(at, "TaskFailedToStart", reason)

    def stop(self, at, code, reason):
        """Begin to stop. Repeating it is harmless: the first reason stays."""
        if self.desired_status == "STOPPED":
            return
        works = (self.status == "RUNNING" or self.claimed) and self.exit_code is None
        self.status, self.desired_status, self.settled = "STOPPING" if works else "DEPROVISIONING", "STOPPED", False
        self.stop_code, self.stopped_reason, self.stopping_at = code, reason, at
        self.due = None if works and self.hosted else at + self.timing.stop_seconds / 2
        if self.deployment and code in ("EssentialContainerExited", "TaskFailedToStart"):
            self.deployment.failed_tasks += 1

    def describe(self, tags=False):
        over = self.status in ("DEPROVISIONING", "STOPPED")
        container_status = "STOPPED" if over else "RUNNING" if self.started_at else "PENDING"
        healths = [self.describe_health(c, over) for c in self.definition.container_definitions]
        network = self.settings.get("networkConfiguration", {}).get("awsvpcConfiguration", {})
        return {
            "taskArn": self.task_arn, "clusterArn": self.cluster_arn, "taskDefinitionArn": self.definition.arn,
            "group": self.group, "startedBy": self.started_by, "lastStatus": self.status,
            "desiredStatus": self.desired_status, "launchType": "FARGATE", "connectivity": "CONNECTED",
            "capacityProviderName": self.provider,
            "platformVersion": "1.4.0", "platformFamily": "Linux", "version": 1,
            "healthStatus": next((h for h in healths if h != "UNKNOWN"), "UNKNOWN"),
            "cpu": self.definition.cpu, "memory": self.definition.memory,
            "overrides": {"containerOverrides": [], **self.overrides},
            "enableExecuteCommand": self.settings.get("enableExecuteCommand", False),
            "createdAt": self.created_at, "startedAt": self.started_at, "stoppingAt": self.stopping_at,
            "stoppedAt": self.stopped_at, "stopCode": self.stop_code, "stoppedReason": self.stopped_reason,
            "tags": self.tags if tags else None,
            "attachments": [{
                "id": str(uuid.UUID(self.id)), "type": "ElasticNetworkInterface",
                "status": "DELETED" if self.status == "STOPPED" else "ATTACHED",
                "details": [{"name": "subnetId", "value": (network.get("subnets") or [""])[0]},
                            {"name": "networkInterfaceId", "value": f"eni-{self.id[:17]}"},
                            {"name": "privateIPv4Address", "value": self.address}],
            }],
            "containers": [{
                "containerArn": self.task_arn.replace(":task/", ":container/") + f"/{index}",
                "taskArn": self.task_arn, "name": container["name"], "image": container["image"],
                "imageDigest": digest(container["image"]) if self.started_at else None,
                "runtimeId": f"{self.id}-{index}", "lastStatus": container_status, "healthStatus": healths[index],
                "exitCode": self.exit_code if over else None, "cpu": str(container.get("cpu", 0)),
                "networkInterfaces": [{"attachmentId": str(uuid.UUID(self.id)), "privateIpv4Address": self.address}],
            } for index, container in enumerate(self.definition.container_definitions)],
        }

    def describe_health(self, container, over):
        """As ECS tells it: UNKNOWN without a health check, before the first one passed, and after the end."""
        return "HEALTHY" if container.get("healthCheck") and self.settled and not over else "UNKNOWN"


class Deployment:
    def __init__(self, service, at, reason=None):
        self.id = f"ecs-svc/{random.randrange(10**18, 10**19)}"
        self.definition = service.definition
        self.settings = {name: service.settings[name] for name in SHAPING if name in service.settings}
        self.state, self.failed_tasks, self.rollback, self.starved = "IN_PROGRESS", 0, reason is not None, False
        self.reason = reason or f"ECS deployment {self.id} in progress."
        self.created_at = self.updated_at = at

    def move(self, at, state, reason):
        self.state, self.reason, self.updated_at = state, reason, at


class Service(models.Service):
    def __init__(self, backend, cluster, params, definition, at):
        super().__init__(cluster, params["serviceName"], params.get("desiredCount", 0), backend, definition,
                         load_balancers=params.get("loadBalancers"), tags=params.get("tags"))
        self.backend, self.cluster, self.definition = backend, cluster, definition
        self.settings = {"schedulingStrategy": "REPLICA", "deploymentController": {"type": "ECS"},
                         "propagateTags": "NONE", "platformVersion": "LATEST"}
        self.deployments, self.tasks, self.last_completed, self.steady = [], [], None, False
        self.created_at = at
        self.keep({"deploymentConfiguration": {}, **params})
        if not self.settings.get("capacityProviderStrategy"):
            self.settings.setdefault("launchType", "FARGATE")

    def keep(self, params):
        given = {name: params[name] for name in KEPT if params.get(name) is not None}
        if given.get("networkConfiguration"):
            given["networkConfiguration"]["awsvpcConfiguration"].setdefault("securityGroups", [])
            self._validate_network(given["networkConfiguration"])
        if "deploymentConfiguration" in given:
            given["deploymentConfiguration"] = {
                "minimumHealthyPercent": 100, "maximumPercent": 200,
                "deploymentCircuitBreaker": {"enable": False, "rollback": False},
                **self.settings.get("deploymentConfiguration", {}), **given["deploymentConfiguration"]}
        self.settings.update(given)
        if given.get("capacityProviderStrategy"):
            self.settings.pop("launchType", None)

    def deploy(self, at, reason=None):
        self.deployments.insert(0, Deployment(self, at, reason))
        self.task_definition = self.definition.arn
        self.steady = False

    def reconcile(self, at):
        """Move one step towards what is wanted; called after every change, so that each step may be small."""
        self.trip_circuit_breaker(at)
        primary, desired = self.deployments[0], self.desired_count
        configuration = self.settings["deploymentConfiguration"]
        floor = math.ceil(desired * configuration["minimumHealthyPercent"] / 100)
        ceiling = desired * configuration["maximumPercent"] // 100

        wanted = [task for task in self.tasks if task.desired_status == "RUNNING"]
        current = [task for task in wanted if task.deployment is primary]
        old = [task for task in wanted if task.deployment is not primary]
        surplus = current[desired:]
        if primary.state == "FAILED":
            surplus += old[max(desired - len(current), 0):]
        else:
            spare = max(sum(task.settled for task in current[:desired] + old) - floor, 0)
            surplus += [task for task in old if not task.settled] + [task for task in old if task.settled][:spare]
        for task in surplus:
            task.stop(at, "ServiceSchedulerInitiated", f"Scaling activity initiated by (deployment {primary.id})")
        self.tell_of(at, "stopped", "running tasks", surplus)

        room = min(desired - len(current), ceiling - len(self.tasks)) if primary.state != "FAILED" else 0
        started = [self.start(at, primary, current) for _ in range(room)]
        self.tell_of(at, "started", "tasks", [task for task in started if task])

        self.deployments[1:] = [d for d in self.deployments[1:] if any(task.deployment is d for task in self.tasks)]
        self.settle(at, primary)

    def provider(self, tasks):
        """The capacity provider of one more task beside these: bases first, then by weight."""
        strategy = self.settings.get("capacityProviderStrategy") or []
        has = {item["capacityProvider"]: sum(t.provider == item["capacityProvider"] for t in tasks) for item in strategy}
        for item in strategy:
            if has[item["capacityProvider"]] < item.get("base", 0):
                return item["capacityProvider"]
        weighed = [item for item in strategy if item.get("weight", 0)]
        fullest = min(weighed, key=lambda item: has[item["capacityProvider"]] / item["weight"], default=None)
        return fullest and fullest["capacityProvider"]

    def start(self, at, deployment, current):
        """One more task, where there is capacity for it."""
        provider = self.provider(current)
        if self.backend.is_short(provider, self.cluster, f"service:{self.name}", deployment.definition):
            if not deployment.starved:
                self.tell(at, f"was unable to place a task. Reason: {NO_CAPACITY}.")
            deployment.starved = True
            return None
        tags = {"SERVICE": self.tags, "TASK_DEFINITION": deployment.definition.tags}
        task = Task(self.backend, self.cluster, deployment.definition, at, group=f"service:{self.name}",
                    started_by=deployment.id, settings=dict(self.settings), service=self, deployment=deployment,
                    tags=tags.get(self.settings["propagateTags"], []), provider=provider)
        self.tasks.append(task)
        current.append(task)
        self.backend.add_task(self.cluster, task)
        return task

    def settle(self, at, primary):
        stable = (len(self.deployments) == 1 and len(self.tasks) == self.desired_count
                  and all(task.settled for task in self.tasks))
        if stable and primary.state == "IN_PROGRESS":
            reason = primary.reason if primary.rollback else f"ECS deployment {primary.id} completed."
            primary.move(at, "COMPLETED", reason)
            self.last_completed = primary
            self.tell(at, f"(deployment {primary.id}) deployment completed.")
        if stable and not self.steady:
            self.tell(at, "has reached a steady state.")
        if stable and self.status == "DRAINING":
            self.status = "INACTIVE"
        self.steady = stable

    def trip_circuit_breaker(self, at):
        primary = self.deployments[0]
        breaker = self.settings["deploymentConfiguration"]["deploymentCircuitBreaker"]
        least, most = CIRCUIT_BREAKER_FAILURES
        threshold = min(max(math.ceil(self.desired_count / 2), least), most)
        if not breaker["enable"] or primary.state != "IN_PROGRESS" or primary.failed_tasks < threshold:
            return
        primary.move(at, "FAILED", "ECS deployment circuit breaker: tasks failed to start.")
        self.tell(at, f"(deployment {primary.id}) deployment failed: tasks failed to start.")
        good = self.last_completed
        if breaker["rollback"] and good and not primary.rollback:
            self.definition = good.definition
            self.settings.update(good.settings)
            self.tell(at, f"rolling back to deployment {good.id}.")
            self.deploy(at, f"ECS deployment circuit breaker: rolling back to deploymentId {good.id}")

    def tell(self, at, message):
        event = {"id": str(uuid.uuid4()), "createdAt": at, "message": f"(service {self.name}) {message}"}
        self.events = [event, *self.events[:EVENTS_KEPT - 1]]

    def tell_of(self, at, verb, noun, tasks):
        if tasks:
            self.tell(at, f"has {verb} {len(tasks)} {noun}: " + " ".join(f"(task {t.id})" for t in tasks) + ".")

    def describe(self, tags=False):
        return {
            **self.settings, **counts(self.tasks),
            "serviceArn": self.arn, "serviceName": self.name, "clusterArn": self.cluster_arn, "status": self.status,
            "desiredCount": self.desired_count, "taskDefinition": self.task_definition, "platformFamily": "Linux",
            "createdAt": self.created_at, "events": self.events, "tags": self.tags if tags else None,
            "deployments": [{
                **d.settings, **counts([t for t in self.tasks if t.deployment is d]),
                "id": d.id, "status": "ACTIVE" if index else "PRIMARY", "taskDefinition": d.definition.arn,
                "desiredCount": 0 if index else self.desired_count, "failedTasks": d.failed_tasks,
                "platformFamily": "Linux", "rolloutState": d.state, "rolloutStateReason": d.reason,
                "createdAt": d.created_at, "updatedAt": d.updated_at,
            } for index, d in enumerate(self.deployments)],
        }


class Backend(models.EC2ContainerServiceBackend):
    """One account's ECS in one region. Its methods expect `lock` to be held and `advance` to have been called."""

    timing = TIMING
    _url_module = urls  # moto would derive it from this module's name

    def __init__(self, region_name, account_id):
        super().__init__(region_name, account_id)
        self.lock, self.now = threading.RLock(), time.time()
        self.live, self.stopped = [], deque()
        self.behaviours, self.runs = {}, {}  # by cluster and group; by cluster and client token
        self.hosted, self.not_hosted = False, []  # whether new tasks are real processes, but of which groups; see hosting

    def advance(self, now):
        while task := min((t for t in self.live if t.due and t.due <= now), key=lambda t: t.due, default=None):
            at = task.due
            task.step()
            if task.status == "STOPPED":
                self.retire(task)
            if task.service:
                task.service.reconcile(at)
        self.now = now

    def add_task(self, cluster, task):
        self.live.append(task)
        self.tasks.setdefault(cluster.name, {})[task.task_arn] = task

    def retire(self, task):
        self.live.remove(task)
        self.stopped.append(task)
        if task.service:
            task.service.tasks.remove(task)
        if len(self.stopped) > STOPPED_TASKS_KEPT:
            oldest = self.stopped.popleft()
            del self.tasks[oldest.cluster_arn.split("/")[-1]][oldest.task_arn]

    def hosts(self, group):
        return self.hosted and group not in self.not_hosted

    def behaviour(self, cluster, group, definition, provider):
        behaviour = self.behaviours.get((cluster.name, group), Behaviour())
        images = [container["image"] for container in definition.container_definitions]
        meant = behaviour.provider in ("", provider) and any(behaviour.image in image for image in images)
        return behaviour if meant else Behaviour()

    def is_short(self, provider, cluster, group, definition):
        return provider == "FARGATE_SPOT" and self.behaviour(cluster, group, definition, provider).kind == "no-spot"

    def cluster_of(self, params):
        return self._get_cluster(params.get("cluster") or "default")

    def active_definition(self, name):
        definition = self.describe_task_definition(name)
        if definition.status != "ACTIVE":
            raise EcsClientException("TaskDefinition is inactive")
        return definition

    def add_service(self, params):
        cluster = self.cluster_of(params)
        key = f"{cluster.name}:{params['serviceName']}"
        if key in self.services and self.services[key].status != "INACTIVE":
            raise InvalidParameterException("Creation of service was not idempotent.")
        if params.get("launchType") and params.get("capacityProviderStrategy"):
            raise InvalidParameterException("Specify either a launch type or a capacity provider strategy, not both.")
        service = Service(self, cluster, params, self.active_definition(params["taskDefinition"]), self.now)
        self.services[key] = service
        service.deploy(self.now)
        service.reconcile(self.now)
        return service

    def change_service(self, params):
        service = self._get_service(self.cluster_of(params).name, params["service"])
        if service.status != "ACTIVE":
            raise ECSException("ServiceNotActiveException", "Service was not ACTIVE.")
        if params.get("capacityProviderStrategy") and service.settings.get("launchType") \
                and not params.get("forceNewDeployment"):
            raise InvalidParameterException(
                "When switching from launch type to capacity provider strategy on an existing service, or making a "
                "change to a capacity provider strategy on a service that is already using one, you must force a new "
                "deployment.")
        before = (service.definition.arn, {name: service.settings.get(name) for name in SHAPING})
        if params.get("taskDefinition"):
            service.definition = self.active_definition(params["taskDefinition"])
        service.keep(params)
        if params.get("desiredCount") is not None:
            service.desired_count = params["desiredCount"]
        after = (service.definition.arn, {name: service.settings.get(name) for name in SHAPING})
        if params.get("forceNewDeployment") or before != after:
            service.deploy(self.now)
        service.reconcile(self.now)
        return service

    def delete_service(self, cluster_name, service_name, force):
        service = self._get_service(cluster_name, service_name)
        if service.desired_count and not force:
            raise InvalidParameterException("The service cannot be stopped while it is scaled above 0.")
        service.status, service.desired_count = "DRAINING", 0
        service.reconcile(self.now)
        return service

    def create_service(self, cluster_str, service_name, desired_count, task_definition_str=None, **_):
        """CloudFormation's way in."""
        with self.lock:
            self.advance(time.time())
            return self.add_service({"cluster": cluster_str, "serviceName": service_name,
                                     "desiredCount": desired_count or 0, "taskDefinition": task_definition_str})

    def update_service(self, service_properties):
        """CloudFormation's way in."""
        with self.lock:
            self.advance(time.time())
            names = {"task_definition": "taskDefinition", "desired_count": "desiredCount"}
            return self.change_service({names.get(name, name): value for name, value in service_properties.items()})

    def run(self, params):
        cluster, token = self.cluster_of(params), params.get("clientToken")
        asked, tasks = self.runs.get((cluster.name, token), (None, []))
        if token and asked is not None:
            if asked != params:
                raise ECSException("ConflictException", "The client token was used for another request.")
            return tasks
        definition = self.active_definition(params["taskDefinition"])
        if not params.get("networkConfiguration"):
            raise InvalidParameterException(
                "Network Configuration must be provided when networkMode 'awsvpc' is specified.")
        strategy = params.get("capacityProviderStrategy")
        provider = strategy[0]["capacityProvider"] if strategy else None
        if self.is_short(provider, cluster, f"family:{definition.family}", definition):
            return []
        for _ in range(params.get("count") or 1):
            tasks = [*tasks, Task(
                self, cluster, definition, self.now, group=params.get("group") or f"family:{definition.family}",
                started_by=params.get("startedBy"), settings=params, overrides=params.get("overrides"),
                tags=params.get("tags") or [], provider=provider)]
            self.add_task(cluster, tasks[-1])
        if token:
            self.runs[cluster.name, token] = params, tasks
        return tasks

    def find_task(self, cluster, name):
        return self.tasks.get(cluster.name, {}).get(task_arn(cluster, name))

    def end_task(self, params):
        task = self.find_task(self.cluster_of(params), params["task"])
        if not task:
            raise InvalidParameterException("The referenced task was not found.")
        task.stop(self.now, "UserInitiated", params.get("reason") or "Task stopped by user")
        if task.service:
            task.service.reconcile(self.now)
        return task

    def matching_tasks(self, params):
        cluster = self.cluster_of(params)
        wanted = {"desired_status": params.get("desiredStatus") or "RUNNING"}  # AWS's default too
        if params.get("startedBy"):
            wanted["started_by"] = params["startedBy"]
        if params.get("serviceName"):
            wanted["service"] = self._get_service(cluster.name, params["serviceName"])
        tasks = self.tasks.get(cluster.name, {}).values()
        return [task for task in tasks if all(getattr(task, name) == value for name, value in wanted.items())
                and params.get("family") in (None, task.definition.family)]


class Responses(EC2ContainerServiceResponse):
    """The ECS calls that have to do with services and tasks; moto answers the others."""

    def __init__(self):
        super().__init__()
        # moto notes a call's include=TAGS in the class, where concurrent calls overwrite each other's.
        self.RESPONSE_KEY_PATH_TO_TRANSFORMER = dict(self.RESPONSE_KEY_PATH_TO_TRANSFORMER)

    def call_action(self):
        with self.ecs_backend.lock:
            self.ecs_backend.advance(time.time())
            status, headers, body = super().call_action()
            if self._get_action() == "DescribeTaskDefinition" and status == 200:
                body = self.whole(body)
            return status, headers, body

    def register_task_definition(self):
        made = super().register_task_definition()
        made.result["taskDefinition"].asked = json.loads(self.raw_body)
        return made

    def whole(self, body):
        """The answer with what was registered and moto has no place for, known to AWS today or not."""
        answer = json.loads(body)
        shown = answer["taskDefinition"]
        asked = getattr(self.ecs_backend.describe_task_definition(self.params["taskDefinition"]), "asked", {})
        for name, value in asked.items():
            if name == "containerDefinitions":
                for container, given in zip(shown[name], value):
                    container.update(given)
            elif name != "tags":
                shown.setdefault(name, value)
        return json.dumps(answer)

    def create_service(self):
        return ActionResult({"service": self.ecs_backend.add_service(self.params).describe(tags=True)})

    def update_service(self):
        return ActionResult({"service": self.ecs_backend.change_service(self.params).describe()})

    def delete_service(self):
        service = self.ecs_backend.delete_service(
            self.ecs_backend.cluster_of(self.params).name, self.params["service"], self.params.get("force"))
        return ActionResult({"service": service.describe()})

    def describe_services(self):
        names = at_most(10, "services", self.params)
        services, failures = self.ecs_backend.describe_services(self.params.get("cluster") or "default", names)
        tags = "TAGS" in self.params.get("include", [])
        return ActionResult({"services": [service.describe(tags) for service in services], "failures": failures})

    def list_services(self):
        cluster = self.ecs_backend.cluster_of(self.params)
        arns = [service.arn for service in self.ecs_backend.services.values() if service.status != "INACTIVE"
                and service.cluster_arn == cluster.arn
                and self.params.get("launchType") in (None, service.settings.get("launchType"))]
        return self.page("serviceArns", sorted(arns), 10)

    def list_tasks(self):
        return self.page("taskArns", [task.task_arn for task in self.ecs_backend.matching_tasks(self.params)], 100)

    def page(self, name, items, size):
        start = int(self.params.get("nextToken") or 0)
        end = start + (self.params.get("maxResults") or size)
        return ActionResult({name: items[start:end], "nextToken": str(end) if end < len(items) else None})

    def describe_tasks(self):
        cluster, tags = self.ecs_backend.cluster_of(self.params), "TAGS" in self.params.get("include", [])
        found = {name: self.ecs_backend.find_task(cluster, name) for name in at_most(100, "tasks", self.params)}
        return ActionResult({
            "tasks": [task.describe(tags) for task in found.values() if task],
            "failures": [{"arn": task_arn(cluster, name), "reason": "MISSING"}
                         for name, task in found.items() if not task]})

    def run_task(self):
        tasks = self.ecs_backend.run(self.params)
        failures = [] if tasks else [{"reason": NO_CAPACITY}]
        return ActionResult({"tasks": [task.describe(tags=True) for task in tasks], "failures": failures})

    def start_task(self):
        raise EcsClientException("The stand-in runs Fargate tasks only.")

    def stop_task(self):
        return ActionResult({"task": self.ecs_backend.end_task(self.params).describe()})

    def describe_clusters(self):
        for cluster in self.ecs_backend.clusters.values():
            totals = counts([task for task in self.ecs_backend.live if task.cluster_arn == cluster.arn])
            cluster.running_tasks_count, cluster.pending_tasks_count = totals["runningCount"], totals["pendingCount"]
            cluster.active_services_count = sum(
                service.status == "ACTIVE" and service.cluster_arn == cluster.arn
                for service in self.ecs_backend.services.values())
        return super().describe_clusters()


def counts(tasks):
    return {"runningCount": sum(task.status == "RUNNING" for task in tasks),
            "pendingCount": sum(task.status in ("PROVISIONING", "PENDING") for task in tasks)}


def task_arn(cluster, name):
    """The ARN of a task that is named by its id or its ARN."""
    return cluster.arn.replace(":cluster/", ":task/") + "/" + name.split("/")[-1]


def digest(image):
    """The digest that the image is pulled by, or one that depends on nothing but its name."""
    return image.split("@")[1] if "@" in image else "sha256:" + hashlib.sha256(image.encode()).hexdigest()


def at_most(limit, name, params):
    names = params.get(name) or []
    if not 1 <= len(names) <= limit:
        raise InvalidParameterException(f"{name.capitalize()} must have between 1 and {limit} items.")
    return names


def install():
    models.ecs_backends.backend = Backend
    urls.url_paths["{0}/$"] = Responses.dispatch
