"""Aurora clusters that take time to start, stop and change.

moto changes a cluster's status at once, leaves its instances available, and turns a stopped cluster that is
modified into an available one. Here a cluster passes through starting, stopping or modifying, and its instances follow
it when it starts or stops. The change is read, not ticked: a cluster keeps the time when it gets to its target.
Plain instances, snapshots, restored clusters and the instances added to them take as long. A restored cluster has of
its source what a snapshot holds; moto gives it everything, cannot if RDS manages the password, and replaces a cluster
of the same name.
"""

import threading
import time

from moto.rds import models, urls
from moto.rds.exceptions import (DBClusterNotFoundError, InvalidDBClusterSnapshotStateFault,
                                 InvalidDBClusterStateFault, RDSClientError)
from moto.rds.responses import RDSResponse

from .behaviour import TIMING

TARGETS = {"starting": "available", "stopping": "stopped", "modifying": "available"}
lock = threading.RLock()  # moto takes a cluster out of its table while it modifies it


class Responses(RDSResponse):
    def call_action(self):
        with lock:
            return super().call_action()


def cluster_status(cluster):
    if cluster._status == "creating":
        if time.time() >= getattr(cluster, "arrives_at", 0):
            cluster._status = "available"
        return "creating"
    if cluster._status in TARGETS and time.time() >= cluster.arrives_at:
        cluster._status = TARGETS[cluster._status]
    return cluster._status


def set_cluster_status(cluster, status):
    cluster._status = status


def instance_status(instance):
    status = instance.cluster.status if hasattr(instance, "cluster") else "available"
    if time.time() < getattr(instance, "arrives_at", 0):
        return "creating"
    return status if status in ("starting", "stopping", "stopped") else instance._status


def plain_status(instance):
    if instance._status in TARGETS and time.time() >= instance.arrives_at:
        instance._status = TARGETS[instance._status]
    return instance._status


def set_instance_status(instance, status):
    instance._status = status


def snapshot_status(snapshot):
    return "available" if snapshot.percent_progress == 100 else "creating"


def snapshot_progress(snapshot):
    left = getattr(snapshot, "arrives_at", 0) - time.time()
    return 100 if left <= 0 else int(99 * (1 - left / snapshot.takes_seconds))


def ignore(*_):
    pass


def require(backend, identifier, status):
    if identifier not in backend.clusters:
        raise DBClusterNotFoundError(identifier)
    cluster = backend.clusters[identifier]
    if cluster.status not in (status, "creating"):
        raise InvalidDBClusterStateFault(
            f"DbCluster {identifier} is in {cluster.status} state but expected it to be one of {status}.")
    return cluster


def install():
    def start_db_cluster(backend, cluster_identifier):
        return move(require(backend, cluster_identifier, "stopped"), "starting")

    def stop_db_cluster(backend, cluster_identifier):
        return move(require(backend, cluster_identifier, "available"), "stopping")

    def move(cluster, status):
        cluster.status, cluster.arrives_at = status, time.time() + TIMING.transition_seconds
        return cluster

    moto_modify = models.RDSBackend.modify_db_cluster

    def modify_db_cluster(backend, kwargs):
        require(backend, kwargs["db_cluster_identifier"], "available")
        before = moto_modify(backend, kwargs)
        move(backend.clusters[before.db_cluster_identifier], "modifying")
        return before

    moto_start, moto_stop = models.RDSBackend.start_db_instance, models.RDSBackend.stop_db_instance
    moto_take_plain = models.RDSBackend.create_db_snapshot

    def start_db_instance(backend, *args, **kwargs):
        return move(moto_start(backend, *args, **kwargs), "starting")

    def stop_db_instance(backend, *args, **kwargs):
        return move(moto_stop(backend, *args, **kwargs), "stopping")

    def create_db_snapshot(backend, *args, **kwargs):
        snapshot = moto_take_plain(backend, *args, **kwargs)
        snapshot.arrives_at, snapshot.takes_seconds = time.time() + TIMING.transition_seconds, TIMING.transition_seconds
        return snapshot

    moto_take, moto_add = models.RDSBackend.create_db_cluster_snapshot, models.RDSBackend.create_db_instance

    def create_db_cluster_snapshot(backend, db_cluster_identifier, *args, **kwargs):
        require(backend, db_cluster_identifier, "available")
        snapshot = moto_take(backend, db_cluster_identifier, *args, **kwargs)
        snapshot.arrives_at, snapshot.takes_seconds = time.time() + TIMING.transition_seconds, TIMING.transition_seconds
        return snapshot

    def create_db_instance(backend, settings):
        instance = moto_add(backend, settings)
        instance.arrives_at = time.time() + TIMING.transition_seconds
        return instance

    def restore_db_cluster_from_snapshot(backend, from_snapshot_id, overrides):
        [snapshot] = backend.describe_db_cluster_snapshots(None, from_snapshot_id)
        name = overrides["db_cluster_identifier"]
        if snapshot.status != "available":
            raise InvalidDBClusterSnapshotStateFault(f"Snapshot {from_snapshot_id} is {snapshot.status}.")
        if name in backend.clusters:
            raise RDSClientError("DBClusterAlreadyExistsFault", f"DB Cluster already exists: {name}")
        kept = ("engine", "engine_version", "master_username", "database_name", "port", "kms_key_id", "storage_encrypted")
        given = {key: value for key, value in overrides.items() if value is not None and key != "snapshot_identifier"}
        cluster = backend.create_db_cluster({
            **{key: getattr(snapshot.cluster, key) for key in kept}, "master_user_password": "not-a-secret", **given})
        return move(cluster, "creating")

    models.DBCluster.status = property(cluster_status, set_cluster_status)
    models.DBInstance.status = property(plain_status, set_instance_status)
    models.DBInstanceClustered.status = property(instance_status, set_instance_status)
    models.RDSBackend.start_db_cluster = start_db_cluster
    models.RDSBackend.stop_db_cluster = stop_db_cluster
    models.RDSBackend.modify_db_cluster = modify_db_cluster
    models.DBClusterSnapshot.status = property(snapshot_status, ignore)
    models.DBClusterSnapshot.percent_progress = property(snapshot_progress, ignore)
    models.DBSnapshot.status = property(snapshot_status, ignore)
    models.DBSnapshot.percent_progress = property(snapshot_progress, ignore)
    models.RDSBackend.start_db_instance = start_db_instance
    models.RDSBackend.stop_db_instance = stop_db_instance
    models.RDSBackend.create_db_snapshot = create_db_snapshot
    models.RDSBackend.create_db_cluster_snapshot = create_db_cluster_snapshot
    models.RDSBackend.create_db_instance = create_db_instance
    models.RDSBackend.restore_db_cluster_from_snapshot = restore_db_cluster_from_snapshot
    urls.url_paths["{0}/$"] = Responses.dispatch
