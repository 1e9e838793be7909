"""A local authority's estate, as one finds it in production, made in one step.

It goes to moto's backends directly: no HTTP, no signatures, nothing in the log of calls, a fraction of a second.
The services are made an hour ago and replayed to now, so that a new estate is already steady.
Making an estate twice gives the same one, with new credentials.
A hosted estate is one whose tasks are real processes (see hosting): its services begin now, and there is a secret.
"""

import hashlib
import json
import threading
import time
from datetime import datetime, timedelta, timezone

from moto.cloudwatch.models import cloudwatch_backends
from moto.ec2.models import ec2_backends
from moto.ecr.models import ecr_backends
from moto.ecs.models import ecs_backends
from moto.iam.models import iam_backends
from moto.logs.models import logs_backends
from moto.rds.models import rds_backends
from moto.s3.models import s3_backends
from moto.secretsmanager.models import secretsmanager_backends
from moto.sqs.models import sqs_backends
from moto.sts.models import sts_backends

AGE_SECONDS = 3600
ROLE = "AgentRole"
CORE = "111111111111"  # whose registry has the images
REPOSITORY = "dagster"
TAG = "2024.11.2"
TAGS = (TAG, "2024.12.0", "2024.12.1")
CODE_SERVER = ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", "4000", "-m", "sfdata_pipelines"]
# Name: desired count, cpu, memory, port, command, deployment configuration.
SERVICES = {
    "webserver": (0, 512, 1024, 3000, ["dagster-webserver", "-h", "0.0.0.0", "-p", "3000", "-w", "workspace.yaml"],
                  {"minimumHealthyPercent": 100, "maximumPercent": 200}),
    "daemon": (1, 512, 2048, None, ["dagster-daemon", "run", "-w", "workspace.yaml"],
               {"minimumHealthyPercent": 0, "maximumPercent": 100}),
    "code-server": (1, 1024, 2048, 4000, CODE_SERVER, {"minimumHealthyPercent": 100, "maximumPercent": 200}),
}
# What should be a secret, and is found in the clear.
PLAIN = {"name": "DAGSTER_PG_PASSWORD", "value": "correct-horse-battery"}
OBJECTS = {
    "data-store": {"ssda903/2024/header.csv": b"CHILD,SEX,DOB\n1,1,01/02/2014\n",
                   "ssda903/2024/episodes.csv": b"CHILD,DECOM,RNE\n1,03/04/2024,S\n",
                   "cin/2024/cin.xml": b"<Message/>\n"},
    "workspace": {"ssda903/clean/2024.csv": b"CHILD,SEX\n1,1\n", "logs/clean.log": b"ok\n"},
    "shared": {"ssda903/concatenated.csv": b"LA,CHILD\n301,1\n"},
}


images = threading.Lock()


def estate(account, la, region, hosted=False):
    make_images(region)
    name = f"sfdata-{la}"
    ecs = ecs_backends[account][region]
    with ecs.lock:
        if name not in ecs.clusters:
            make_role(account)
            subnets, groups = make_network(account, region, name)
            make_database(account, region, name, subnets, groups["database"])
            make_buckets(account, region, name)
            ecs.hosted = hosted
            make_services(account, region, name, subnets, groups["services"], hosted)
    credentials = assume(account, region)
    return {
        **credentials, "account": account, "region": region, "la": la, "cluster": name, "db_cluster": name,
        "db_instance": f"{name}-1", "services": list(SERVICES), "log_group": f"/{name}",
        "run_task_family": f"{name}-run", "secret": secret_arn(account, region, name), "buckets": {kind: f"{name}-{kind}" for kind in OBJECTS},
        "role_arn": role_arn(account),
        "images": {tag: f"{CORE}.dkr.ecr.{region}.amazonaws.com/{REPOSITORY}@{image_digest(tag)}" for tag in TAGS},
        "network": ecs.services[f"{name}:daemon"].settings["networkConfiguration"]["awsvpcConfiguration"],
    }


def make_images(region):
    """One repository for all accounts, as the core account has it."""
    ecr = ecr_backends[CORE][region]
    with images:
        if REPOSITORY in ecr.repositories:
            return
        ecr.create_repository(REPOSITORY, CORE, None, None, "MUTABLE", [])
        pull = {"Version": "2012-10-17", "Statement": [{
            "Sid": "Pull", "Effect": "Allow", "Principal": "*",
            "Action": ["ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"]}]}
        ecr.set_repository_policy(CORE, REPOSITORY, json.dumps(pull))
        for tag in TAGS:
            kind = "application/vnd.oci.image.manifest.v1+json"
            manifest = {"schemaVersion": 2, "mediaType": kind, "annotations": {"version": tag}}
            ecr.put_image(REPOSITORY, json.dumps(manifest), tag, kind, image_digest(tag))


def image_digest(tag):
    return "sha256:" + hashlib.sha256(f"{REPOSITORY}:{tag}".encode()).hexdigest()


def role_arn(account, name=ROLE):
    return f"arn:aws:iam::{account}:role/{name}"


def role(account, region, name, anew=False):
    """Keys of a role, which is made if it is not there. Deleted and made `anew`, it has another unique id."""
    roles = iam_backends[account]["aws"].roles
    for id in [id for id, role in roles.items() if anew and role.name == name]:
        del roles[id]
    make_role(account, name)
    return assume(account, region, name)


def make_role(account, name=ROLE):
    iam = iam_backends[account]["aws"]
    trust = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ecs-tasks.amazonaws.com"}}]}
    policy = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Resource": "*",
        "Action": ["ecs:*", "ecr:*", "rds:*", "s3:*", "logs:*", "cloudwatch:*", "iam:PassRole",
                   "secretsmanager:*", "sqs:*"]}]}
    if not any(role.name == name for role in iam.roles.values()):
        iam.create_role(name, json.dumps(trust), "/", None, "The agent's own role", [], "3600")
        iam.put_role_policy(name, "manage-the-platform", json.dumps(policy))


def make_network(account, region, name):
    ec2 = ec2_backends[account][region]
    vpc = ec2.create_vpc("10.20.0.0/16")
    subnets = [ec2.create_subnet(vpc.id, f"10.20.{number}.0/24", availability_zone=f"{region}{zone}")
               for number, zone in enumerate("ab")]
    groups = {purpose: ec2.create_security_group(f"{name}-{purpose}", f"{name} {purpose}", vpc.id).id
              for purpose in ("services", "database")}
    return subnets, groups


def make_database(account, region, name, subnets, group):
    rds = rds_backends[account][region]
    rds.create_subnet_group(name, "Dagster's storage", subnets, [])
    cluster = rds.create_db_cluster({
        "db_cluster_identifier": name, "engine": "aurora-postgresql", "engine_version": "16.4",
        "database_name": "dagster", "master_username": "dagster", "master_user_password": "not-a-secret",
        "db_subnet_group_name": name, "vpc_security_group_ids": [group], "storage_encrypted": True,
        "serverless_v2_scaling_configuration": {"MinCapacity": 0.5, "MaxCapacity": 4.0}})
    instance = rds.create_db_instance({
        "db_instance_identifier": f"{name}-1", "db_cluster_identifier": name, "engine": "aurora-postgresql",
        "db_instance_class": "db.serverless"})
    cluster.status, instance.arrives_at = "available", 0
    for snapshot in rds.describe_db_cluster_snapshots(name, None):
        snapshot.arrives_at = 0
    measured = {"ServerlessDatabaseCapacity": 1.5, "DatabaseConnections": 3}
    # moto cuts the end of what is asked for to the second: what is measured now would not be found at once.
    at = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(minutes=1)
    cloudwatch_backends[account][region].put_metric_data("AWS/RDS", [
        {"MetricName": metric, "Dimensions": [{"Name": "DBClusterIdentifier", "Value": name}], "Value": value,
         "Timestamp": at}
        for metric, value in measured.items()])


def make_instance(account, region, name):
    rds_backends[account][region].create_db_instance({
        "db_instance_identifier": name, "engine": "postgres", "engine_version": "16.4", "allocated_storage": 20,
        "db_instance_class": "db.t4g.medium", "master_username": "dagster", "master_user_password": "not-a-secret"})


def make_buckets(account, region, name):
    s3 = s3_backends[account]["aws"]
    for kind, objects in OBJECTS.items():
        s3.create_bucket(f"{name}-{kind}", region)
        for key, value in objects.items():
            s3.put_object(f"{name}-{kind}", key, value)


def make_secret(account, region, name):
    secretsmanager_backends[account][region].create_secret(
        name=f"{name}/database", secret_string=PLAIN["value"], secret_binary=None, description="Dagster's storage",
        tags=[], kms_key_id=None, client_request_token=None, replica_regions=[], force_overwrite=False)


def secret_arn(account, region, name):
    secrets = secretsmanager_backends[account][region].secrets
    return secrets[f"{name}/database"].arn if f"{name}/database" in secrets else None


def make_arrivals(account, region, la):
    """The queue of what arrives in the data store, told by the bucket itself."""
    name = f"sfdata-{la}-arrivals"
    queue = sqs_backends[account][region].create_queue(name)
    bucket = s3_backends[account]["aws"].get_bucket(f"sfdata-{la}-data-store")
    # The backend takes what the XML of the request becomes.
    bucket.set_notification_configuration({"QueueConfiguration": [
        {"Id": "arrivals", "Queue": queue.queue_arn, "Event": ["s3:ObjectCreated:*"]}]})
    return name


def make_services(account, region, name, subnets, group, hosted):
    ecs = ecs_backends[account][region]
    logs_backends[account][region].create_log_group(f"/{name}", {})
    if not hosted:
        ecs.advance(time.time() - AGE_SECONDS)
    else:
        make_secret(account, region, name)
    ecs.create_cluster(name, capacity_providers=["FARGATE", "FARGATE_SPOT"])
    define(ecs, name, "run", 1024, 4096, None, ["dagster", "api", "execute_run"])
    for service, (desired, cpu, memory, port, command, configuration) in SERVICES.items():
        ecs.add_service({
            "cluster": name, "serviceName": service, "desiredCount": desired, "launchType": "FARGATE",
            "taskDefinition": define(ecs, name, service, cpu, memory, port, command).arn,
            "deploymentConfiguration": configuration,
            "networkConfiguration": {"awsvpcConfiguration": {
                "subnets": [subnet.id for subnet in subnets], "securityGroups": [group],
                "assignPublicIp": "DISABLED"}}})
    ecs.advance(time.time())


def define(ecs, name, service, cpu, memory, port, command):
    container = {
        "name": service, "image": f"{CORE}.dkr.ecr.{ecs.region_name}.amazonaws.com/{REPOSITORY}:{TAG}",
        "command": command, "essential": True,
        "portMappings": [{"containerPort": port, "protocol": "tcp"}] if port else [],
        "environment": [{"name": "DAGSTER_HOME", "value": "/opt/dagster"},
                        {"name": "SENSOR_MIN_INTERVAL", "value": "600"},
                        *([PLAIN] if service == "code-server" else [])],
        "logConfiguration": {"logDriver": "awslogs", "options": {
            "awslogs-group": f"/{name}", "awslogs-region": ecs.region_name, "awslogs-stream-prefix": service}}}
    definition = ecs.register_task_definition(
        f"{name}-{service}", [container], network_mode="awsvpc", requires_compatibilities=["FARGATE"],
        cpu=str(cpu), memory=str(memory), task_role_arn=role_arn(ecs.account_id),
        execution_role_arn=role_arn(ecs.account_id))
    # Fields that no SDK knows yet: whoever makes a revision has to carry them over all the same.
    definition.asked = {"ofTomorrow": {"kept": [1, 2.5]}, "containerDefinitions": [{"ofTomorrow": True}]}
    return definition


def assume(account, region, name=ROLE):
    role = sts_backends[account]["aws"].assume_role(
        region, "sfdata-agent", role_arn(account, name), None, 3600, None)
    return {"access_key_id": role.access_key_id, "secret_access_key": role.secret_access_key,
            "session_token": role.session_token}
