"""Tests of the stand-in, over the wire with boto3: `PYTHONPATH=deploy/sandbox python -m unittest standin.test_standin`.

One server serves all tests; each test seeds accounts of its own, so that none sees another's.
Times are those of a slow machine: a test waits for a condition and fails after ten seconds.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

IMAGE = "111111111111.dkr.ecr.eu-west-2.amazonaws.com/dagster"
numbers = itertools.count(1)


def setUpModule():
    global server, url, folder
    folder = tempfile.TemporaryDirectory()
    ready = Path(folder.name, "ready.json")
    server = subprocess.Popen(
        [sys.executable, "-m", "standin", "--ready-file", str(ready), "--until-stdin-closes",
         "--run-task-seconds", "0.3"],
        cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(ready.exists, 60)
    url = json.loads(ready.read_text())["url"]


def tearDownModule():
    server.stdin.close()
    assert server.wait(1) == 0
    folder.cleanup()


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        time.sleep(0.02)
    return result


def control(method, path, **body):
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{url}/standin/{path}", data, method=method)
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


class Estate:
    """A fresh account with a seeded authority, and its AWS clients."""

    def __init__(self, **seed):
        number = next(numbers)
        self.account, self.la = f"3{number:011}", f"la-{number}"
        self.facts = control("POST", "seed", account=self.account, la=self.la, **seed)
        self.cluster = self.facts["cluster"]
        self.ecs, self.rds, self.s3 = (self.client(name) for name in ("ecs", "rds", "s3"))

    def client(self, name, **config):
        return boto3.client(
            name, endpoint_url=url, region_name="eu-west-2", aws_access_key_id=self.facts["access_key_id"],
            aws_secret_access_key=self.facts["secret_access_key"], aws_session_token=self.facts["session_token"],
            config=Config(retries={"max_attempts": 0, "mode": "standard"}, max_pool_connections=50, **config))

    def service(self, name="daemon"):
        return self.ecs.describe_services(cluster=self.cluster, services=[name])["services"][0]

    def update(self, name="daemon", **changes):
        return self.ecs.update_service(cluster=self.cluster, service=name, **changes)["service"]

    def tasks(self, **filters):
        arns = self.ecs.list_tasks(cluster=self.cluster, **filters)["taskArns"]
        return self.ecs.describe_tasks(cluster=self.cluster, tasks=arns)["tasks"] if arns else []

    def all_tasks(self, service):
        return [task for status in ("RUNNING", "STOPPED")
                for task in self.tasks(serviceName=service, desiredStatus=status)]

    def completed(self, name="daemon"):
        service = self.service(name)
        done = len(service["deployments"]) == 1 and service["deployments"][0]["rolloutState"] == "COMPLETED"
        return service if done and service["runningCount"] == service["desiredCount"] else None

    def define(self, name="daemon", tag="new"):
        old = self.ecs.describe_task_definition(taskDefinition=f"{self.cluster}-{name}")["taskDefinition"]
        container = {**old["containerDefinitions"][0], "image": f"{IMAGE}:{tag}"}
        return self.ecs.register_task_definition(
            family=old["family"], containerDefinitions=[container], networkMode="awsvpc", cpu=old["cpu"],
            memory=old["memory"], requiresCompatibilities=["FARGATE"])["taskDefinition"]["taskDefinitionArn"]

    def behave(self, behaviour, service="daemon", **more):
        control("POST", "tasks", account=self.account, cluster=self.cluster, service=service,
                behaviour=behaviour, **more)

    def calls(self, **query):
        query = "&".join(f"{name}={value}" for name, value in query.items())
        return control("GET", f"calls?account={self.account}&{query}")

    def fault(self, kind, service="ecs", action="*", **more):
        control("POST", "faults", account=self.account, service=service, action=action, kind=kind, **more)


class LifeCycle(unittest.TestCase):
    def setUp(self):
        self.estate = Estate()

    def test_a_seeded_estate_is_steady(self):
        daemon, webserver = self.estate.service("daemon"), self.estate.service("webserver")
        self.assertEqual((daemon["desiredCount"], daemon["runningCount"], daemon["pendingCount"]), (1, 1, 0))
        self.assertEqual(webserver["runningCount"], 0)
        self.assertEqual(daemon["deployments"][0]["rolloutState"], "COMPLETED")
        self.assertEqual(daemon["deploymentConfiguration"]["maximumPercent"], 100)
        self.assertEqual(daemon["events"][0]["message"], "(service daemon) has reached a steady state.")
        [task] = self.estate.tasks(serviceName="daemon")
        self.assertEqual((task["group"], task["lastStatus"]), ("service:daemon", "RUNNING"))
        self.assertEqual(task["startedBy"], daemon["deployments"][0]["id"])
        self.assertRegex(task["containers"][0]["imageDigest"], "^sha256:[0-9a-f]{64}$")

    def test_a_task_passes_through_every_state(self):
        self.estate.update("webserver", desiredCount=1)
        [arn] = self.estate.ecs.list_tasks(cluster=self.estate.cluster, serviceName="webserver")["taskArns"]
        seen = []

        def ended(last):
            task = self.estate.ecs.describe_tasks(cluster=self.estate.cluster, tasks=[arn])["tasks"][0]
            if task["lastStatus"] not in seen:
                seen.append(task["lastStatus"])
            return task if task["lastStatus"] == last else None

        wait_for(lambda: ended("RUNNING"))
        self.estate.update("webserver", desiredCount=0)
        task = wait_for(lambda: ended("STOPPED"))
        order = ["PROVISIONING", "PENDING", "RUNNING", "STOPPING", "DEPROVISIONING", "STOPPED"]
        # Each lasts a fifth of a second: a busy machine may look too late for one, but never sees them out of order.
        self.assertEqual(seen, [status for status in order if status in seen])
        self.assertEqual(task["stopCode"], "ServiceSchedulerInitiated")
        self.assertEqual(task["containers"][0]["exitCode"], 143)
        self.assertLess(task["createdAt"], task["startedAt"])
        self.assertLess(task["startedAt"], task["stoppedAt"])

    def test_scaling_changes_counts_and_makes_no_deployment(self):
        before = self.estate.service("code-server")["deployments"][0]["id"]
        self.assertEqual(self.estate.update("code-server", desiredCount=3)["pendingCount"], 2)
        service = wait_for(lambda: self.estate.completed("code-server"))
        self.assertEqual((service["runningCount"], service["deployments"][0]["id"]), (3, before))
        self.estate.update("code-server", desiredCount=0)
        wait_for(lambda: not self.estate.tasks(serviceName="code-server"))

    def test_the_same_task_definition_again_is_no_deployment(self):
        service = self.estate.service()
        changed = self.estate.update(taskDefinition=service["taskDefinition"])
        self.assertEqual([d["id"] for d in changed["deployments"]], [d["id"] for d in service["deployments"]])

    def test_force_new_deployment_counts_once(self):
        before = self.estate.service("code-server")["deployments"][0]["id"]
        after = self.estate.update("code-server", forceNewDeployment=True)["deployments"]
        self.assertEqual([(d["status"], d["rolloutState"]) for d in after],
                         [("PRIMARY", "IN_PROGRESS"), ("ACTIVE", "COMPLETED")])
        self.assertEqual(after[1]["id"], before)
        service = wait_for(lambda: self.estate.completed("code-server"))
        self.assertEqual(service["deployments"][0]["id"], after[0]["id"])
        self.assertEqual(self.estate.calls(action="UpdateService", count=1),
                         {"count": 1, "actions": {"ecs:UpdateService": 1}})

    def test_a_task_definition_is_told_as_it_was_registered(self):
        old = self.estate.ecs.describe_task_definition(taskDefinition=f"{self.estate.cluster}-daemon")["taskDefinition"]
        made = self.estate.ecs.register_task_definition(
            family=old["family"], cpu="256", memory="512", requiresCompatibilities=["FARGATE"], networkMode="awsvpc",
            containerDefinitions=[{"name": "daemon", "image": "a:1", "versionConsistency": "disabled"}],
            enableFaultInjection=True, tags=[{"key": "k", "value": "v"}])["taskDefinition"]
        told = self.estate.ecs.describe_task_definition(taskDefinition=old["family"], include=["TAGS"])
        self.assertEqual((told["taskDefinition"]["taskDefinitionArn"], told["tags"]),
                         (made["taskDefinitionArn"], [{"key": "k", "value": "v"}]))
        self.assertTrue(told["taskDefinition"]["enableFaultInjection"])
        self.assertEqual(told["taskDefinition"]["containerDefinitions"][0]["versionConsistency"], "disabled")

    def test_at_most_a_hundred_per_cent_never_overlap(self):
        for tag in ("one", "two"):
            definition = self.estate.define(tag=tag)
            self.assertEqual(self.estate.update(taskDefinition=definition.split("/")[1])["taskDefinition"], definition)
            wait_for(self.estate.completed)
        tasks = sorted(self.estate.all_tasks("daemon"), key=lambda task: task["createdAt"])
        self.assertEqual(len(tasks), 3)
        for old, new in zip(tasks, tasks[1:]):
            self.assertLessEqual(old["stoppedAt"], new["createdAt"])

    def test_at_least_a_hundred_per_cent_never_gaps(self):
        self.estate.update("code-server", taskDefinition=self.estate.define("code-server"))
        wait_for(lambda: self.estate.completed("code-server"))
        old, new = sorted(self.estate.all_tasks("code-server"), key=lambda task: task["createdAt"])
        self.assertLess(new["startedAt"], old["stoppingAt"])

    def test_a_stopped_task_is_replaced(self):
        [task] = self.estate.tasks(serviceName="daemon")
        stopped = self.estate.ecs.stop_task(cluster=self.estate.cluster, task=task["taskArn"], reason="a try")["task"]
        self.assertEqual((stopped["stopCode"], stopped["stoppedReason"]), ("UserInitiated", "a try"))
        [replacement] = wait_for(lambda: self.estate.tasks(serviceName="daemon"))
        self.assertNotEqual(replacement["taskArn"], task["taskArn"])
        with self.assertRaises(self.estate.ecs.exceptions.InvalidParameterException):
            self.estate.ecs.stop_task(cluster=self.estate.cluster, task="0" * 32)

    def test_a_rollout_that_never_starts_stays_in_progress(self):
        self.estate.behave("never-starts")
        self.estate.update(forceNewDeployment=True)
        wait_for(lambda: [task["lastStatus"] for task in self.estate.tasks(serviceName="daemon")] == ["PENDING"])
        time.sleep(1)
        service = self.estate.service()
        self.assertEqual((service["runningCount"], service["pendingCount"]), (0, 1))
        self.assertEqual(service["deployments"][0]["rolloutState"], "IN_PROGRESS")
        self.estate.behave("normal")
        wait_for(self.estate.completed)

    def test_what_is_not_yet_pending_is_freed_as_well(self):
        for delay in (0.3, 0.37, 0.44, 0.51, 0.58, 0.65, 0.72, 0.79):
            self.estate.behave("never-starts")
            self.estate.update(forceNewDeployment=True)
            time.sleep(delay)
            self.estate.behave("normal")
            wait_for(self.estate.completed)

    def test_crashes_trip_the_circuit_breaker_and_roll_back(self):
        good = self.estate.service()["taskDefinition"]
        self.estate.behave("crashes", image=":bad")
        self.estate.update(taskDefinition=self.estate.define(tag="bad"), deploymentConfiguration={
            "deploymentCircuitBreaker": {"enable": True, "rollback": True}})
        service = wait_for(lambda: self.estate.completed() if self.estate.service()["taskDefinition"] == good else None)
        self.assertIn("rolling back to deploymentId ecs-svc/", service["deployments"][0]["rolloutStateReason"])
        crashed = [t for t in self.estate.tasks(serviceName="daemon", desiredStatus="STOPPED")
                   if t["stopCode"] == "EssentialContainerExited"]
        self.assertEqual([(t["containers"][0]["exitCode"], t["stoppedReason"]) for t in crashed],
                         [(1, "Essential container in task exited")] * 3)

    def test_a_task_that_cannot_start_says_why(self):
        for behaviour, word in (("cannot-pull", "CannotPullContainerError"), ("no-secret", "ResourceInitialization")):
            self.estate.behave(behaviour)
            self.estate.update(forceNewDeployment=True)
            task = wait_for(lambda: next((task for task in self.estate.tasks(
                serviceName="daemon", desiredStatus="STOPPED") if word in task["stoppedReason"]), None))
            self.assertEqual(task["stopCode"], "TaskFailedToStart")
            self.assertNotIn("exitCode", task["containers"][0])

    def test_tasks_are_spread_over_capacity_providers_and_spot_may_have_none(self):
        strategy = [{"capacityProvider": "FARGATE", "base": 1, "weight": 0},
                    {"capacityProvider": "FARGATE_SPOT", "weight": 1}]
        with self.assertRaises(self.estate.ecs.exceptions.InvalidParameterException):
            self.estate.update("code-server", capacityProviderStrategy=strategy)
        self.estate.update("code-server", capacityProviderStrategy=strategy, desiredCount=3, forceNewDeployment=True)
        service = wait_for(lambda: self.estate.completed("code-server"))
        self.assertEqual(service["capacityProviderStrategy"][0]["base"], 1)
        self.assertNotIn("launchType", service)
        names = sorted(task["capacityProviderName"] for task in self.estate.tasks(serviceName="code-server"))
        self.assertEqual(names, ["FARGATE", "FARGATE_SPOT", "FARGATE_SPOT"])
        self.estate.behave("no-spot", "code-server")
        self.estate.update("code-server", desiredCount=4)
        self.assertIn("Capacity is unavailable", self.estate.service("code-server")["events"][0]["message"])
        self.assertEqual(len(self.estate.tasks(serviceName="code-server")), 3)
        family = self.estate.facts["run_task_family"]
        control("POST", "tasks", account=self.estate.account, cluster=self.estate.cluster, family=family,
                behaviour="no-spot")
        ran = self.estate.ecs.run_task(
            cluster=self.estate.cluster, taskDefinition=family, capacityProviderStrategy=strategy[1:],
            networkConfiguration={"awsvpcConfiguration": self.estate.facts["network"]})
        self.assertEqual(ran["tasks"], [])
        self.assertIn("Capacity is unavailable", ran["failures"][0]["reason"])

    def test_tasks_of_one_capacity_alone_crash(self):
        self.estate.behave("crashes", "code-server", provider="FARGATE_SPOT")
        for provider, ends in (("FARGATE_SPOT", True), ("FARGATE", False)):
            strategy = [{"capacityProvider": provider, "weight": 1, "base": 0}]
            self.estate.update("code-server", capacityProviderStrategy=strategy, forceNewDeployment=True)
            if ends:
                wait_for(lambda: self.estate.service("code-server")["deployments"][0]["failedTasks"] > 1)
            else:
                wait_for(lambda: self.estate.completed("code-server"))

    def test_every_task_has_an_address_of_its_own(self):
        told = control("GET", f"tasks?account={self.estate.account}")["tasks"]
        self.assertEqual(len({task["address"] for task in told}), 2)
        [task] = self.estate.tasks(serviceName="daemon")
        details = {detail["name"]: detail["value"] for detail in task["attachments"][0]["details"]}
        self.assertIn(details["privateIPv4Address"], [task["address"] for task in told])
        self.assertTrue(details["privateIPv4Address"].startswith("127.64."))

    def test_a_run_ends_by_itself_and_its_token_repeats_safely(self):
        def run(count):
            return self.estate.ecs.run_task(
                cluster=self.estate.cluster, taskDefinition=self.estate.facts["run_task_family"], clientToken="once",
                count=count, networkConfiguration={"awsvpcConfiguration": self.estate.facts["network"]},
                tags=[{"key": "dagster/run_id", "value": "r1"}])["tasks"]

        [first], [again] = run(1), run(1)
        self.assertEqual(first["taskArn"], again["taskArn"])
        with self.assertRaises(self.estate.ecs.exceptions.ConflictException):
            run(2)
        control("DELETE", f"tokens?account={self.estate.account}")
        [other] = run(1)
        self.assertNotEqual(first["taskArn"], other["taskArn"])

        def task():
            return self.estate.ecs.describe_tasks(
                cluster=self.estate.cluster, tasks=[first["taskArn"]], include=["TAGS"])["tasks"][0]

        ended = wait_for(lambda: task() if task()["lastStatus"] == "STOPPED" else None)
        self.assertEqual(ended["containers"][0]["exitCode"], 0)
        self.assertIn("startedAt", ended)
        self.assertEqual(ended["tags"], [{"key": "dagster/run_id", "value": "r1"}])

    def test_what_does_not_exist_is_told_properly(self):
        described = self.estate.ecs.describe_tasks(cluster=self.estate.cluster, tasks=["0" * 32])
        self.assertEqual([failure["reason"] for failure in described["failures"]], ["MISSING"])
        with self.assertRaises(self.estate.ecs.exceptions.ServiceNotFoundException):
            self.estate.update("nobody", desiredCount=1)

    def test_a_deleted_service_stops_its_tasks(self):
        deleted = self.estate.ecs.delete_service(cluster=self.estate.cluster, service="daemon", force=True)["service"]
        self.assertEqual(deleted["status"], "DRAINING")
        wait_for(lambda: self.estate.service()["status"] == "INACTIVE")
        self.assertEqual([task["lastStatus"] for task in self.estate.all_tasks("daemon")], ["STOPPED"])
        with self.assertRaises(self.estate.ecs.exceptions.ServiceNotActiveException):
            self.estate.update(desiredCount=1)

    def test_twenty_threads_see_one_consistent_rollout(self):
        problems, done = [], threading.Event()

        def hammer():
            while not done.is_set():
                try:
                    service = self.estate.service()
                    up = service["runningCount"] + service["pendingCount"]
                    if up > 1 or sum(d["status"] == "PRIMARY" for d in service["deployments"]) != 1:
                        problems.append(service)
                    self.estate.tasks(serviceName="daemon")
                except Exception as error:
                    problems.append(error)

        threads = [threading.Thread(target=hammer) for _ in range(20)]
        for thread in threads:
            thread.start()
        try:
            for tag in ("one", "two", "three"):
                self.estate.update(taskDefinition=self.estate.define(tag=tag))
                wait_for(self.estate.completed)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        self.assertEqual(problems, [])
        self.assertEqual(self.estate.calls(action="UpdateService", count=1)["count"], 3)


class Aurora(unittest.TestCase):
    def setUp(self):
        self.estate = Estate()

    def statuses(self):
        cluster = self.estate.rds.describe_db_clusters(DBClusterIdentifier=self.estate.cluster)["DBClusters"][0]
        instance = self.estate.rds.describe_db_instances()["DBInstances"][0]
        return cluster["Status"], instance["DBInstanceStatus"]

    def test_a_cluster_takes_time_to_stop_and_start(self):
        self.assertEqual(self.statuses(), ("available", "available"))
        stopping = self.estate.rds.stop_db_cluster(DBClusterIdentifier=self.estate.cluster)["DBCluster"]
        self.assertEqual((stopping["Status"], self.statuses()), ("stopping", ("stopping", "stopping")))
        with self.assertRaises(self.estate.rds.exceptions.InvalidDBClusterStateFault):
            self.estate.rds.start_db_cluster(DBClusterIdentifier=self.estate.cluster)
        wait_for(lambda: self.statuses() == ("stopped", "stopped"))
        starting = self.estate.rds.start_db_cluster(DBClusterIdentifier=self.estate.cluster)["DBCluster"]
        self.assertEqual(starting["Status"], "starting")
        wait_for(lambda: self.statuses() == ("available", "available"))

    def test_the_capacity_range_is_kept(self):
        asked = {"MinCapacity": 0.0, "MaxCapacity": 2.0, "SecondsUntilAutoPause": 300}
        self.estate.rds.modify_db_cluster(
            DBClusterIdentifier=self.estate.cluster, ServerlessV2ScalingConfiguration=asked)
        cluster = self.estate.rds.describe_db_clusters(DBClusterIdentifier=self.estate.cluster)["DBClusters"][0]
        self.assertEqual((cluster["ServerlessV2ScalingConfiguration"], cluster["Status"]), (asked, "modifying"))
        with self.assertRaises(self.estate.rds.exceptions.InvalidDBClusterStateFault):
            self.estate.rds.stop_db_cluster(DBClusterIdentifier=self.estate.cluster)
        wait_for(lambda: self.statuses() == ("available", "available"))

    def test_its_load_is_told_as_the_sdks_ask_for_it(self):
        now = datetime.now(timezone.utc)
        metric = {"Namespace": "AWS/RDS", "MetricName": "DatabaseConnections",
                  "Dimensions": [{"Name": "DBClusterIdentifier", "Value": self.estate.cluster}]}
        query = [{"Id": "q", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}}]
        asked = {"MetricDataQueries": query, "StartTime": now - timedelta(minutes=5), "EndTime": now + timedelta(seconds=9)}
        client = self.estate.client("cloudwatch")
        self.assertEqual(client.get_metric_data(**asked)["MetricDataResults"][0]["Values"], [3.0])
        whole = {**asked, "StartTime": now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)}
        whole["MetricDataQueries"] = [{"Id": "q", "MetricStat": {"Metric": metric, "Period": 3600, "Stat": "Sum"}}]
        at, = client.get_metric_data(**whole)["MetricDataResults"][0]["Timestamps"]
        self.assertEqual((at.minute, at.second), (0, 0), "hours are whole where the time asked for begins with one")
        self.assertEqual(self.estate.calls(service="monitoring", count=1)["actions"], {"monitoring:GetMetricData": 2})
        self.estate.fault("access_denied", "monitoring")
        with self.assertRaises(ClientError) as caught:
            client.get_metric_data(**asked)
        self.assertEqual(caught.exception.response["Error"]["Code"], "AccessDeniedException")

    def test_a_plain_instance_takes_time_too(self):
        control("POST", "seed", account=self.estate.account, la=self.estate.la, instance="plain")
        rds, plain = self.estate.rds, {"DBInstanceIdentifier": "plain"}

        def status():
            return rds.describe_db_instances(**plain)["DBInstances"][0]["DBInstanceStatus"]

        self.assertEqual(status(), "available")
        snapshot = rds.create_db_snapshot(DBSnapshotIdentifier="kept", **plain)["DBSnapshot"]
        self.assertEqual(snapshot["Status"], "creating")
        one = {"DBSnapshotIdentifier": "kept"}
        wait_for(lambda: rds.describe_db_snapshots(**one)["DBSnapshots"][0]["Status"] == "available")
        self.assertEqual(rds.stop_db_instance(**plain)["DBInstance"]["DBInstanceStatus"], "stopping")
        with self.assertRaises(rds.exceptions.InvalidDBInstanceStateFault):
            rds.start_db_instance(**plain)
        wait_for(lambda: status() == "stopped")
        rds.start_db_instance(**plain)
        wait_for(lambda: status() == "available")

    def test_a_snapshot_takes_time_and_becomes_a_cluster_beside_the_live_one(self):
        rds, live = self.estate.rds, self.estate.cluster
        rds.modify_db_cluster(DBClusterIdentifier=live, ManageMasterUserPassword=True)
        wait_for(lambda: self.statuses()[0] == "available")
        names = {"DBClusterIdentifier": live, "DBClusterSnapshotIdentifier": "kept"}
        taken = rds.create_db_cluster_snapshot(**names)["DBClusterSnapshot"]
        self.assertEqual(taken["Status"], "creating")
        self.assertLess(taken["PercentProgress"], 100)
        again = {"SnapshotIdentifier": "kept", "Engine": "aurora-postgresql", "DeletionProtection": True,
                 "Tags": [{"Key": "k", "Value": "v"}],
                 "ServerlessV2ScalingConfiguration": {"MinCapacity": 1.0, "MaxCapacity": 2.0}}
        with self.assertRaises(rds.exceptions.InvalidDBClusterSnapshotStateFault):
            rds.restore_db_cluster_from_snapshot(DBClusterIdentifier="copy", **again)
        one = {"DBClusterSnapshotIdentifier": "kept"}
        wait_for(lambda: rds.describe_db_cluster_snapshots(**one)["DBClusterSnapshots"][0]["Status"] == "available")
        made = rds.restore_db_cluster_from_snapshot(DBClusterIdentifier="copy", **again)["DBCluster"]
        self.assertEqual((made["Status"], made["EngineVersion"], made["DeletionProtection"]), ("creating", "16.4", True))
        self.assertEqual(made["DBSubnetGroup"], "default", "what is not asked for is not carried over")
        for name in ("copy", live):
            with self.assertRaises(rds.exceptions.DBClusterAlreadyExistsFault):
                rds.restore_db_cluster_from_snapshot(DBClusterIdentifier=name, **again)

        def copy():
            return rds.describe_db_clusters(DBClusterIdentifier="copy")["DBClusters"][0]

        wait_for(lambda: copy()["Status"] == "available")
        self.assertEqual((copy()["TagList"], copy()["DBClusterMembers"]), (again["Tags"], []))
        instance = {"DBInstanceIdentifier": "copy-1", "DBInstanceClass": "db.serverless", "Engine": "aurora-postgresql"}
        rds.create_db_instance(DBClusterIdentifier="copy", **instance)

        def status():
            answer = rds.describe_db_instances(Filters=[{"Name": "db-cluster-id", "Values": ["copy"]}])
            return [one["DBInstanceStatus"] for one in answer["DBInstances"]]

        self.assertEqual(status(), ["creating"])
        wait_for(lambda: status() == ["available"])


class Control(unittest.TestCase):
    def setUp(self):
        self.estate = Estate()
        self.addCleanup(control, "DELETE", "faults")

    def refused(self, code, status, call, *args, **kwargs):
        with self.assertRaises(ClientError) as caught:
            call(*args, **kwargs)
        response = caught.exception.response
        self.assertEqual((response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]), (code, status))

    def test_seeding_twice_gives_the_same_estate(self):
        again = control("POST", "seed", account=self.estate.account, la=self.estate.la)
        self.assertEqual(again["network"], self.estate.facts["network"])
        self.assertEqual(self.estate.client("sts").get_caller_identity()["Account"], self.estate.account)
        for bucket in self.estate.facts["buckets"].values():
            self.assertTrue(self.estate.s3.list_objects_v2(Bucket=bucket)["Contents"])

    def test_an_estate_of_others_has_no_tags_and_no_telling_names(self):
        facts = control("POST", "seed", account=self.estate.account)
        names = self.estate.ecs.list_services(cluster=facts["cluster"])["serviceArns"]
        services = self.estate.ecs.describe_services(cluster=facts["cluster"], services=names, include=["TAGS"])
        self.assertEqual(len(services["services"]), 5)
        self.assertFalse(any(service.get("tags") for service in services["services"]))
        self.assertEqual(facts, {**control("POST", "seed", account=self.estate.account), **{
            name: facts[name] for name in ("access_key_id", "secret_access_key", "session_token")}})

    def test_another_account_sees_nothing(self):
        other = Estate()
        self.refused("AccessDenied", 403, other.s3.list_objects_v2, Bucket=self.estate.facts["buckets"]["data-store"])
        self.refused("ClusterNotFoundException", 400, other.ecs.list_services, cluster=self.estate.cluster)

    def test_the_log_has_what_was_really_asked(self):
        self.estate.update(desiredCount=0)
        self.estate.rds.describe_db_clusters(DBClusterIdentifier=self.estate.cluster)
        bucket = self.estate.facts["buckets"]["workspace"]
        self.estate.s3.put_object(Bucket=bucket, Key="a/b c.txt", Body=b"x")
        update, describe, put = self.estate.calls()["calls"]
        self.assertEqual((update["service"], update["action"], update["status"]), ("ecs", "UpdateService", 200))
        self.assertEqual(update["params"], {"cluster": self.estate.cluster, "service": "daemon", "desiredCount": 0})
        self.assertEqual((describe["service"], describe["params"]),
                         ("rds", {"DBClusterIdentifier": self.estate.cluster}))
        self.assertEqual((put["action"], put["params"]["Bucket"], put["params"]["Key"]),
                         ("PutObject", bucket, "a/b c.txt"))
        self.assertEqual(self.estate.calls(after=update["sequence"])["count"], 2)
        control("DELETE", "calls")
        self.assertEqual(self.estate.calls()["count"], 0)

    def test_faults_speak_the_protocol_of_the_service(self):
        daemon = {"cluster": self.estate.cluster, "service": "daemon", "desiredCount": 1}
        bucket = self.estate.facts["buckets"]["shared"]
        calls = {"ecs": (self.estate.ecs.update_service, daemon), "rds": (self.estate.rds.describe_db_clusters, {}),
                 "s3": (self.estate.s3.list_objects_v2, {"Bucket": bucket}),
                 "ec2": (self.estate.client("ec2").describe_vpcs, {})}
        wanted = {
            "throttle": {"ecs": ("ThrottlingException", 400), "rds": ("Throttling", 400), "s3": ("SlowDown", 503),
                         "ec2": ("RequestLimitExceeded", 503)},
            "error500": {"ecs": ("ServerException", 500), "rds": ("InternalFailure", 500),
                         "s3": ("InternalError", 500)},
            "access_denied": {"ecs": ("AccessDeniedException", 400), "rds": ("AccessDenied", 403),
                              "s3": ("AccessDenied", 403)}}
        for kind, services in wanted.items():
            for service, (code, status) in services.items():
                with self.subTest(kind=kind, service=service):
                    self.estate.fault(kind, service, times=1)
                    call, arguments = calls[service]
                    self.refused(code, status, call, **arguments)
                    call(**arguments)
        self.assertEqual(self.estate.calls(action="UpdateService", count=1)["count"], 3)
        self.assertEqual(self.estate.calls(action="UpdateService", faults=1)["count"], 6)

    def test_a_fault_without_a_count_stays_until_removed(self):
        self.estate.fault("throttle", action="ListTasks", times=None)
        for _ in range(3):
            self.refused("ThrottlingException", 400, self.estate.tasks)
        self.estate.service()
        control("DELETE", "faults")
        self.estate.tasks()

    def test_html_and_lost_replies(self):
        self.estate.fault("html500", action="DescribeServices")
        self.refused("500", 500, self.estate.service)
        self.estate.fault("lost_reply", action="UpdateService")
        self.refused("ServerException", 500, self.estate.update, desiredCount=0)
        self.assertEqual(self.estate.service()["desiredCount"], 0)
        self.assertEqual(self.estate.calls(action="UpdateService", count=1)["count"], 1)

    def test_a_hanging_call_has_no_effect(self):
        self.estate.fault("hang", action="UpdateService", seconds=30)
        with self.assertRaises(ReadTimeoutError):
            self.estate.client("ecs", read_timeout=0.5).update_service(
                cluster=self.estate.cluster, service="daemon", desiredCount=0)
        self.assertEqual(self.estate.service()["desiredCount"], 1)

    def test_a_role_made_anew_has_another_id_and_the_same_name(self):
        def caller(**how):
            keys = control("POST", "role", account=self.estate.account, role="Joiner", **how)
            sts = boto3.client("sts", endpoint_url=url, region_name="eu-west-2", aws_access_key_id=keys["access_key_id"],
                               aws_secret_access_key=keys["secret_access_key"], aws_session_token=keys["session_token"])
            said = sts.get_caller_identity()
            return said["Arn"], said["UserId"]

        first, again, anew = caller(), caller(), caller(anew=True)
        self.assertEqual(first, again)
        self.assertEqual(first[0], anew[0])
        self.assertNotEqual(first[1], anew[1])

    def test_nonsense_is_refused(self):
        for path, body in (("faults", {"kind": "magic"}), ("tasks", {"behaviour": "normal"}), ("nothing", {"a": 1})):
            with self.assertRaises(urllib.error.HTTPError):
                control("POST", path, **body)


if __name__ == "__main__":
    unittest.main()
