"""An estate that somebody else's templates made: names that tell nothing, no tags, more services than a platform needs.

Made like `seed`'s, straight in moto's backends. The webserver is switched off, two services are code servers, and the
upload page's name speaks of a daemon. One bucket is told by a variable, one by what its stack calls it, one by
an output. A second cluster has nothing of Dagster's, and more services than one call describes.
"""

import json
import time

from moto.cloudformation.models import cloudformation_backends
from moto.ecs.models import ecs_backends
from moto.rds.models import rds_backends
from moto.s3.models import s3_backends

from . import seed

CLUSTER, DATABASE, STACK = "bi-prod-Cluster-9XQ2", "bi-prod-store-x1", "bi-prod-data"
INGRESS, WORKSPACE, SHARED, LOGS = "bi-prod-0f3a", "bi-prod-77c1", "bi-prod-9e2d", "bi-prod-1d40"
TEMPLATE = {
    "Resources": {name: {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": bucket}}
                  for name, bucket in (("WorkspaceBucket", WORKSPACE), ("Third", SHARED), ("AccessLogs", LOGS))},
    "Outputs": {"EgressBucketName": {"Value": {"Ref": "Third"}}},
}


def services(endpoint):
    """Name: desired count, container, entry point, command, port, variables."""
    dagster = {"DAGSTER_HOME": "/opt/dagster", "PG": f"postgresql://dagster:not-a-secret@{endpoint}:5432/dagster"}
    places = {"INPUT_LOCATION": f"s3://{INGRESS}/incoming"}
    return {
        "Svc-A1B2": (0, "app", ["/bin/sh", "-c"], ["exec dagster-webserver -h 0.0.0.0 -p 3000"], 3000, dagster),
        "Svc-C3D4": (1, "app", [], ["tini", "--", "dagster-daemon", "run", "-w", "workspace.yaml"], None, dagster),
        "Svc-E5F6": (1, "app", ["dagster"], ["api", "grpc", "-p", "4000"], 4000, dagster | places),
        "Svc-G7H8": (1, "app", [], ["dagster", "code-server", "start", "-p", "4000"], 4000, dagster),
        "upload-daemon": (1, "page", [], ["streamlit", "run", "app.py"], 8501, {"TARGET": INGRESS}),
    }


def estate(account, region):
    ecs = ecs_backends[account][region]
    with ecs.lock:
        if CLUSTER not in ecs.clusters:
            seed.make_role(account)
            subnets, groups = seed.make_network(account, region, CLUSTER)
            seed.make_database(account, region, DATABASE, subnets, groups["database"])
            s3_backends[account]["aws"].create_bucket(INGRESS, region)
            cloudformation_backends[account][region].create_stack(STACK, json.dumps(TEMPLATE), {})
            make_services(account, region, [subnet.id for subnet in subnets], groups["services"])
    return {**seed.assume(account, region), "account": account, "region": region, "cluster": CLUSTER,
            "db_cluster": DATABASE,
            "buckets": {"data-store": INGRESS, "workspace": WORKSPACE, "shared": SHARED}}


def make_services(account, region, subnets, group):
    ecs = ecs_backends[account][region]
    ecs.advance(time.time() - seed.AGE_SECONDS)
    network = {"awsvpcConfiguration": {"subnets": subnets, "securityGroups": [group], "assignPublicIp": "DISABLED"}}

    def make(cluster, name, desired, *shape):
        ecs.add_service({"cluster": cluster, "serviceName": name, "desiredCount": desired, "launchType": "FARGATE",
                         "taskDefinition": define(ecs, name, *shape), "networkConfiguration": network})

    ecs.create_cluster(CLUSTER)
    for name, (desired, *shape) in services(rds_backends[account][region].clusters[DATABASE].endpoint).items():
        make(CLUSTER, name, desired, *shape)
    ecs.create_cluster("intranet")
    for number in range(12):
        make("intranet", f"site-{number:02}", 0, "site", [], ["nginx"], 80, {})
    ecs.advance(time.time())


def define(ecs, family, container, entry_point, command, port, variables):
    return ecs.register_task_definition(
        family, [{
            "name": container, "image": "registry.example.org/team/image:7", "essential": True,
            "entryPoint": entry_point, "command": command,
            "portMappings": [{"containerPort": port, "protocol": "tcp"}] if port else [],
            "environment": [{"name": name, "value": value} for name, value in variables.items()]}],
        network_mode="awsvpc", requires_compatibilities=["FARGATE"], cpu="512", memory="1024").arn
