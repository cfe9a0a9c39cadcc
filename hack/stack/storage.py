"""A real S3 server inside the cluster, filled from the host.

It runs as a pod, so it lives and goes with the cluster and engine pods reach it by its Service's name.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from hack.stack import reach, region
from hack.stack.kubectl import Kubectl

NAMESPACE = "storage"
NAME = "s3"
PORT = 7070
BUCKET = "npc"
REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the server is, for pods and for the host, and how to get in."""

    endpoint: str
    host_endpoint: str
    access_key: str
    secret_key: str = field(repr=False)

    def credentials(self) -> dict[str, str]:
        """The data of a Secret that `secretRef` can name."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
        }

    def uri(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}"

    def upload(self, folder: Path, prefix: str) -> str:
        """Put every file of `folder` under `prefix` and return its URI; what else is there stays."""
        client = _client(self)
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
            client.upload_file(str(file), BUCKET, f"{prefix}/{file.relative_to(folder)}")
        return self.uri(prefix)


def _client(storage: Storage) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=storage.host_endpoint,
        aws_access_key_id=storage.access_key,
        aws_secret_access_key=storage.secret_key,
        region_name=REGION,
        config=Config(retries={"total_max_attempts": 8, "mode": "standard"}, s3={"addressing_style": "path"}),
    )


def manifests(*, image: str, binary: Path, access_key: str, secret_key: str) -> list[dict[str, Any]]:
    """Namespace, credentials, the server and its Service. `binary` is versitygw on the host; `image` needs nothing but
    to start.
    """
    labels = {"app.kubernetes.io/name": NAME}
    container = {
        "name": NAME,
        "image": image,
        "command": ["/opt/s3/" + binary.name, "--port", f":{PORT}", "posix", "/data"],
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": NAME, "key": name}}}
            for name in ("ROOT_ACCESS_KEY", "ROOT_SECRET_KEY")
        ],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "bin", "mountPath": "/opt/s3", "readOnly": True},
            {"name": "data", "mountPath": "/data"},
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 2000,
            "runAsGroup": 2000,
            "fsGroup": 2000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "bin", "persistentVolumeClaim": {"claimName": "bin", "readOnly": True}},
            {"name": "data", "emptyDir": {}},
        ],
    }
    return [
        region.namespace(NAMESPACE),
        *region.volume(NAMESPACE, host_path=str(binary.parent), claim="bin"),
        region.secret(NAMESPACE, NAME, {"ROOT_ACCESS_KEY": access_key, "ROOT_SECRET_KEY": secret_key}),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {"selector": labels, "ports": [{"port": PORT, "targetPort": PORT}]},
        },
    ]


async def start(kubectl: Kubectl, *, driver: str, image: str, binary: Path) -> Storage:
    """Start the server, or find the one that runs; it is up, with its bucket, when this returns."""
    known = await kubectl.find("secret", NAME, NAMESPACE) if await kubectl.find("namespace", NAMESPACE, "") else None
    if known is None:
        access, secret = f"demo{secrets.token_hex(4)}", secrets.token_hex(20)
    else:
        access, secret = (_decoded(known, key) for key in ("ROOT_ACCESS_KEY", "ROOT_SECRET_KEY"))
    await kubectl.apply(*manifests(image=image, binary=binary, access_key=access, secret_key=secret))
    await kubectl.until(
        "deployment",
        NAME,
        NAMESPACE,
        lambda seen: seen.get("status", {}).get("readyReplicas") == 1,
        timeout=400,
        what="ready",
    )
    storage = Storage(
        endpoint=f"http://{NAME}.{NAMESPACE}.svc.cluster.local:{PORT}",
        host_endpoint=await reach.host_url(kubectl, driver, NAMESPACE, NAME),
        access_key=access,
        secret_key=secret,
    )
    await asyncio.to_thread(_make_bucket, storage)
    return storage


async def stop(kubectl: Kubectl) -> None:
    """Take the server away with everything in it; not there already is success."""
    await kubectl.delete("namespace", NAMESPACE, "")
    await kubectl.delete("persistentvolume", region.volume_name(NAMESPACE, "bin"), "")


async def upload_all(storage: Storage, folders: Iterable[tuple[Path, str]]) -> None:
    """Upload (folder, prefix) pairs one after the other without blocking the event loop."""
    for folder, prefix in folders:
        await asyncio.to_thread(storage.upload, folder, prefix)


def _make_bucket(storage: Storage) -> None:
    client = _client(storage)
    if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=BUCKET)


def _decoded(seen: dict[str, Any], key: str) -> str:
    return base64.b64decode(seen["data"][key]).decode()
