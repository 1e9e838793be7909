"""Aurora clusters that take time to start, stop and change.

moto changes a cluster's status at once, leaves its instances available, and turns a stopped cluster that is
modified into an available one. Here a cluster passes through starting, stopping or modifying, and its instances follow
it when it starts or stops. The change is read, not ticked: a cluster keeps the time when it gets to its target.
"""

import threading
import time

from moto.rds import models, urls
from moto.rds.exceptions import DBClusterNotFoundError, InvalidDBClusterStateFault
from moto.rds.responses import RDSResponse

TARGETS = {"starting": "available", "stopping": "stopped", "modifying": "available"}
lock = threading.RLock()  # moto takes a cluster out of its table while it modifies it


class Responses(RDSResponse):
    def call_action(self):
        with lock:
            return super().call_action()


def cluster_status(cluster):
    if cluster._status == "creating":
        cluster._status = "available"
        return "creating"
    if cluster._status in TARGETS and time.time() >= cluster.arrives_at:
        cluster._status = TARGETS[cluster._status]
    return cluster._status


def set_cluster_status(cluster, status):
    cluster._status = status


def instance_status(instance):
    status = instance.cluster.status if hasattr(instance, "cluster") else "available"
    return status if status in ("starting", "stopping", "stopped") else instance._status


def set_instance_status(instance, status):
    instance._status = status


def require(backend, identifier, status):
    if identifier not in backend.clusters:
        raise DBClusterNotFoundError(identifier)
    cluster = backend.clusters[identifier]
    if cluster.status not in (status, "creating"):
        raise InvalidDBClusterStateFault(
            f"DbCluster {identifier} is in {cluster.status} state but expected it to be one of {status}.")
    return cluster


def install(transition_seconds):
    def start_db_cluster(backend, cluster_identifier):
        return move(require(backend, cluster_identifier, "stopped"), "starting")

    def stop_db_cluster(backend, cluster_identifier):
        return move(require(backend, cluster_identifier, "available"), "stopping")

    def move(cluster, status):
        cluster.status, cluster.arrives_at = status, time.time() + transition_seconds
        return cluster

    moto_modify = models.RDSBackend.modify_db_cluster

    def modify_db_cluster(backend, kwargs):
        require(backend, kwargs["db_cluster_identifier"], "available")
        before = moto_modify(backend, kwargs)
        move(backend.clusters[before.db_cluster_identifier], "modifying")
        return before

    models.DBCluster.status = property(cluster_status, set_cluster_status)
    models.DBInstanceClustered.status = property(instance_status, set_instance_status)
    models.RDSBackend.start_db_cluster = start_db_cluster
    models.RDSBackend.stop_db_cluster = stop_db_cluster
    models.RDSBackend.modify_db_cluster = modify_db_cluster
    urls.url_paths["{0}/$"] = Responses.dispatch
