"""A RayJob for KubeRay: Ray's head, which only drives, and a group of workers that train.

KubeRay starts the cluster, runs the driver on it, and deletes it when the driver has ended; where the head is lost it
does so again (`backoffLimit`), and the study goes on from its store. The store is a volume, mounted at one path in all
pods, or a bucket, whose credentials come from a Secret and stand nowhere else. A study's file travels as a ConfigMap.
Ray's processes know each other by a token that KubeRay makes (`authOptions`, KubeRay >= 1.5).
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from sweeps.launch import GIB, RAY_BYTES, Resources
from sweeps.output import clean
from sweeps.yaml_text import yaml_text

RETRIES = 3
"""Clusters that are started anew after one has failed: a head on a preemptible node may be lost."""
KEPT_SECONDS = 600
"""How long a cluster stays when its job has ended, for its logs; it costs meanwhile."""
STUDY_FOLDER = "/study"
STUDY_FILE = "study.toml"
IMAGE_GROUP = 1000
"""Of the user that the image of docs/cluster.md runs as, and Ray's own images."""
NAME_LENGTH = 47
"""Longest name of a RayJob, by KubeRay's validation."""


@dataclass(frozen=True, kw_only=True)
class KubeRayJob:
    """What KubeRay is told beside the resources."""

    name: str
    """Of the study."""
    study: str
    """As the command line names it in a pod."""
    text: str | None
    """Of the study's file, which is mounted at `STUDY_FOLDER`; None where the pods have it already."""
    options: tuple[str, ...]
    """Of `loopsweep run`, but for workers, device and the cluster."""
    image: str | None = None
    namespace: str | None = None
    volume: tuple[str, str] | None = None
    """Claim and mount path; None where the store is a bucket."""
    secret: str | None = None
    """With the credentials of the bucket, as environment variables."""


def kuberay_manifest(job: KubeRayJob, need: Resources) -> str:
    """The documents, as text for ``kubectl apply``."""
    head = [
        f"# The study {clean(job.name)}, written by `loopsweep launch kuberay`, for KubeRay >= 1.5.",
        "# What is recorded is not run again, however often this is applied.",
        *(f"# {fact}" for fact in need.facts),
    ]
    documents = [yaml_text(document) for document in _documents(job, need)]
    return "\n".join(head) + "\n" + "---\n".join(documents)


def resource_name(study: str) -> str:
    """A study's name as Kubernetes takes it: what it can't hold is told apart by a digest."""
    plain = re.sub(r"[^a-z0-9-]", "-", f"loopsweep-{study.lower()}").rstrip("-")
    if plain == f"loopsweep-{study}" and len(plain) <= NAME_LENGTH:
        return plain
    digest = hashlib.sha256(study.encode()).hexdigest()[:6]
    return f"{plain[: NAME_LENGTH - 7].rstrip('-')}-{digest}"


def _documents(job: KubeRayJob, need: Resources) -> Iterable[dict[str, Any]]:
    name = resource_name(job.name)
    about: dict[str, Any] = {"name": name} | ({} if job.namespace is None else {"namespace": job.namespace})
    about["labels"] = {"app.kubernetes.io/name": "loopsweep", "app.kubernetes.io/instance": name}
    if job.text is not None:
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {STUDY_FILE: job.text}}
    words = ["loopsweep", "run", "--on", "ray", "--address", "auto", "--workers", str(need.workers)]
    yield {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": about,
        "spec": {
            "entrypoint": shlex.join([*words, "--device", need.device, *job.options, "--", job.study]),
            "submissionMode": "K8sJobMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "backoffLimit": RETRIES,
            "activeDeadlineSeconds": need.time_s,
            "rayClusterSpec": _cluster(job, need, name),
        },
    }


def _cluster(job: KubeRayJob, need: Resources, name: str) -> dict[str, Any]:
    driver = {"cpu": 2, "memory": _gibibytes(need.driver_bytes + RAY_BYTES)}
    worker: dict[str, Any] = {"cpu": need.cpus, "memory": _gibibytes(need.cpus * need.worker_bytes + RAY_BYTES)}
    if need.gpus:
        worker["nvidia.com/gpu"] = need.gpus
    small = {"object-store-memory": "100000000"}  # bundles and events are small
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0"} | small,  # it drives, and trains nothing
            "template": _pod(job, name, "ray-head", driver),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": need.nodes,
                "minReplicas": need.nodes,
                "maxReplicas": need.nodes,
                "rayStartParams": dict(small),
                "template": _pod(job, name, "ray-worker", worker),
            }
        ],
    }


def _gibibytes(number: int) -> str:
    return f"{-(-number // GIB)}Gi"


def _pod(job: KubeRayJob, name: str, role: str, amounts: dict[str, Any]) -> dict[str, Any]:
    """A pod of one container; it asks for exactly what it may use, so that nobody else's need ends it."""
    container: dict[str, Any] = {
        "name": role,
        "image": job.image or f"loopsweep:{version('loopsweep')}",
        "resources": {"requests": amounts, "limits": dict(amounts)},
    }
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if job.volume is not None:
        claim, path = job.volume
        volumes.append({"name": "store", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "store", "mountPath": path})
    if job.text is not None:
        volumes.append({"name": "study", "configMap": {"name": name}})
        mounts.append({"name": "study", "mountPath": STUDY_FOLDER, "readOnly": True})
    if mounts:
        container["volumeMounts"] = mounts
    if job.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": job.secret}}]
    spec: dict[str, Any] = {"containers": [container]}
    if volumes:
        spec["volumes"] = volumes
    if job.volume is not None:
        spec["securityContext"] = {"fsGroup": IMAGE_GROUP}  # so that a fresh volume can be written
    return {"spec": spec}
