"""The pipelines of the tests' Dagster: jobs that end well, badly or late, a schedule and a sensor of each kind."""

import time

from dagster import (
    DefaultScheduleStatus,
    DefaultSensorStatus,
    In,
    Nothing,
    SkipReason,
    job,
    op,
    repository,
    schedule,
    sensor,
)

after = {"after": In(Nothing)}


@op
def begins(context):
    context.log.info("it begins")


@op(ins=after)
def ends(context):
    context.log.info("it ends")


@op(ins=after)
def breaks(context):
    raise ValueError("no value for Mary Smith")


@op(config_schema={"seconds": float})
def waits(context):
    time.sleep(context.op_config["seconds"])


@job
def good():
    ends(begins())


@job
def bad():
    ends(breaks(begins()))


@job
def slow():
    ends(waits())


@schedule(
    cron_schedule="0 1 * * *", job=good, execution_timezone="Europe/London", default_status=DefaultScheduleStatus.RUNNING
)
def nightly():
    return {}


@schedule(cron_schedule="0 2 * * *", job=good)
def off():
    return {}


@sensor(job=good, minimum_interval_seconds=3600, default_status=DefaultSensorStatus.RUNNING)
def chain(context):
    context.update_cursor("seen")
    return SkipReason("nothing is to be done for Mary Smith")


@sensor(job=good, minimum_interval_seconds=60)
def resting():
    return SkipReason("never")


@repository
def sync():
    return [good, bad, slow, nightly, off, chain, resting]
