"""The S3 server's manifests: restricted, findable, and with its credentials in one place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hack.stack import storage
from hack.stack.storage import Storage

BINARY = Path("/cache/bin/versitygw")


def made() -> dict[str, dict[str, Any]]:
    manifests = storage.manifests(image="localhost/busybox:1", binary=BINARY, access_key="user", secret_key="hidden")
    return {manifest["kind"]: manifest for manifest in manifests}


def test_the_pod_passes_pod_security_restricted() -> None:
    pod = made()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_the_service_finds_the_pod() -> None:
    objects = made()
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"].items() <= labels.items()
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] == storage.PORT


def test_the_server_runs_from_the_folder_of_the_hosts_binary() -> None:
    objects = made()
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert objects["PersistentVolume"]["spec"]["hostPath"]["path"] == str(BINARY.parent)
    assert container["command"][0] == "/opt/s3/versitygw"


def test_the_secret_key_is_in_the_secret_and_nowhere_else() -> None:
    holders = [kind for kind, manifest in made().items() if "hidden" in json.dumps(manifest)]
    assert holders == ["Secret"]


def test_a_handle_does_not_show_its_secret_key() -> None:
    handle = Storage("http://s3", "http://10.0.0.1", "user", "hidden")
    assert "hidden" not in repr(handle)
    assert handle.credentials()["AWS_SECRET_ACCESS_KEY"] == "hidden"
    assert handle.uri("adapters/vampire") == "s3://npc/adapters/vampire"
