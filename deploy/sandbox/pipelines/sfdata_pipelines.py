"""A pipeline of the estate's shape: an ingest job for each dataset, then two jobs that polling sensors chain to it.

`ingest_<dataset>` takes what lies under `<dataset>/` in the data store into the workspace; a sensor sees the last
successful ingest and asks for `clean`, another sees the last successful clean and asks for `publish`, which writes the
shared bucket. No job tells the next one: what is not looked at again stays undone, which is why sleeping is not simple.
Sensors ask for a run by the id of the run before, so that looking twice starts nothing twice.

The environment says where things are: DATA_STORE, WORKSPACE and SHARED are `s3://bucket` or folders, and folders in
DAGSTER_HOME where they are not given; SENSOR_MIN_INTERVAL in seconds; NIGHTLY_CRON in NIGHTLY_TIMEZONE (UTC). A
file that is not UTF-8 fails its ingest; the option `seconds` of each op makes a run as long as a test needs it.
"""

import os
import time
from pathlib import Path

import boto3
from dagster import (DagsterRunStatus, DefaultScheduleStatus, DefaultSensorStatus, Field, RunRequest, RunsFilter,
                     ScheduleDefinition, in_process_executor, job, op, repository, sensor)

DATASETS = ("ssda903", "cin")
SENSOR_MIN_INTERVAL = int(os.environ.get("SENSOR_MIN_INTERVAL", "3600"))
NIGHTLY_CRON = os.environ.get("NIGHTLY_CRON", "0 2 * * *")
NIGHTLY_TIMEZONE = os.environ.get("NIGHTLY_TIMEZONE", "UTC")
OPTIONS = {"dataset": Field(str, default_value="", is_required=False),
           "seconds": Field(float, default_value=0.0, is_required=False)}


class Folder:
    def __init__(self, path):
        self.path = Path(path)

    def names(self, prefix):
        found = (path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        return sorted(name for name in found if name.startswith(prefix))

    def read(self, name):
        return (self.path / name).read_bytes()

    def write(self, name, data):
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(data)


class Bucket:
    def __init__(self, name):
        self.name, self.s3 = name, boto3.client("s3")

    def names(self, prefix):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))

    def read(self, name):
        return self.s3.get_object(Bucket=self.name, Key=name)["Body"].read()

    def write(self, name, data):
        self.s3.put_object(Bucket=self.name, Key=name, Body=data)


def place(kind):
    given = os.environ.get(kind.upper().replace("-", "_")) or f"{os.environ['DAGSTER_HOME']}/{kind}"
    return Bucket(given.removeprefix("s3://").rstrip("/")) if given.startswith("s3://") else Folder(given)


def carry(context, source, under, target, to, change=lambda text: text):
    """Every file below a prefix, changed, to another place."""
    time.sleep(context.op_config["seconds"])
    for name in source.names(under):
        text = change(source.read(name).decode())
        target.write(to + name.removeprefix(under), text.encode())
        context.log.info(f"{name} becomes {to}{name.removeprefix(under)}")


def make_ingest(dataset):
    @op(name=f"read_{dataset}", config_schema=OPTIONS)
    def read(context):
        carry(context, place("data-store"), f"{dataset}/", place("workspace"), f"{dataset}/ingested/")

    @job(name=f"ingest_{dataset}", executor_def=in_process_executor, tags={"dataset": dataset})
    def ingest():
        read()

    return ingest


INGESTS = [make_ingest(dataset) for dataset in DATASETS]


@op(config_schema=OPTIONS)
def tidy(context):
    dataset, workspace = context.op_config["dataset"], place("workspace")
    carry(context, workspace, f"{dataset}/ingested/", workspace, f"{dataset}/clean/",
          lambda text: "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip()))


@job(executor_def=in_process_executor)
def clean():
    tidy()


@op(config_schema=OPTIONS)
def share(context):
    dataset = context.op_config["dataset"]
    carry(context, place("workspace"), f"{dataset}/clean/", place("shared"), f"{dataset}/")


@job(executor_def=in_process_executor)
def publish():
    share()


def requests(context, before, op_name):
    """One run for the last successful run before, of each dataset."""
    for dataset in DATASETS:
        wanted = RunsFilter(job_name=before(dataset), statuses=[DagsterRunStatus.SUCCESS], tags={"dataset": dataset})
        for record in context.instance.get_run_records(wanted, limit=1):
            yield RunRequest(run_key=record.dagster_run.run_id, tags={"dataset": dataset},
                             run_config={"ops": {op_name: {"config": {"dataset": dataset}}}})


@sensor(job=clean, default_status=DefaultSensorStatus.RUNNING, minimum_interval_seconds=SENSOR_MIN_INTERVAL)
def clean_after_ingest(context):
    yield from requests(context, lambda dataset: f"ingest_{dataset}", "tidy")


@sensor(job=publish, default_status=DefaultSensorStatus.RUNNING, minimum_interval_seconds=SENSOR_MIN_INTERVAL)
def publish_after_clean(context):
    yield from requests(context, lambda _: "clean", "share")


nightly = ScheduleDefinition(name="nightly", job=INGESTS[0], cron_schedule=NIGHTLY_CRON,
                             execution_timezone=NIGHTLY_TIMEZONE, default_status=DefaultScheduleStatus.RUNNING)


@repository
def sync():
    return [*INGESTS, clean, publish, clean_after_ingest, publish_after_clean, nightly]
