"""The gateway's Deployment. It starts from the Secret with the last route table, so it serves without the operator and
the API server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.api.npcregion import NPCRegionSpec, Tls
from npc_operator.manifests.labels import controller_reference, gateway_labels, gateway_selector
from npc_operator.manifests.placement import build_placement, build_pull_secrets
from npc_operator.manifests.pod_parts import (
    build_field_env,
    build_mount,
    build_port,
    build_probe,
    build_resources,
    image_of,
)
from npc_operator.manifests.pod_security import container_security_context, pod_security_context
from npc_runtime.wire import AGENT_PORT, GATEWAY_ADMIN_PORT, GATEWAY_HEALTH_PORT, GATEWAY_PORT

INTERNAL_DIR = "/etc/npc/internal"
ROUTES_DIR = "/etc/npc/routes"
ROUTES_KEY = "routes.json.gz"
STATE_DIR = "/var/lib/npc-gateway"
TLS_DIR = "/etc/npc/tls"
TLS_VOLUME = "npc-tls"
TLS_DIR_VARIABLE = "NPC_TLS_DIR"
"""Tells the gateway where its certificate is, which it follows while it runs; without it the data port is plain HTTP.
"""

SHUTDOWN_DELAY_SECONDS = 5
"""After SIGTERM the gateway still serves so long, while Services and load balancers stop sending."""
MARGIN_SECONDS = 10


def drain_seconds(spec: NPCRegionSpec) -> int:
    """A gateway that goes lets every line end that its limits allow; it is gone as soon as none runs."""
    return spec.gateway.limits.request_timeout_seconds


def data_protocol(spec: NPCRegionSpec) -> str:
    """What game servers speak with a gateway; also the name of that port."""
    return "http" if spec.gateway.tls is None else "https"


def read_tls(deployment: Mapping[str, Any]) -> Tls | None:
    """What the gateways of a live Deployment are run with."""
    template = deployment.get("spec", {}).get("template", {})
    volumes = template.get("spec", {}).get("volumes") or ()
    name = next((one["secret"]["secretName"] for one in volumes if one.get("name") == TLS_VOLUME), None)
    return None if name is None else Tls(secret_name=name)


def build_gateway_deployment(meta: ObjectMeta, spec: NPCRegionSpec, *, image: str, pull_policy: str) -> dict[str, Any]:
    selector = gateway_selector(meta.name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.gateway(meta.name),
            "namespace": meta.namespace,
            "labels": gateway_labels(meta.name),
            "ownerReferences": [controller_reference(names.KIND_REGION, meta)],
        },
        "spec": {
            "replicas": spec.gateway.replicas,
            "selector": {"matchLabels": selector},
            "revisionHistoryLimit": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": gateway_labels(meta.name)},
                "spec": {
                    # A gateway holds no rights in Kubernetes.
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": pod_security_context(),
                    "terminationGracePeriodSeconds": SHUTDOWN_DELAY_SECONDS + drain_seconds(spec) + MARGIN_SECONDS,
                    **build_placement(spec.gateway.scheduling),
                    **build_pull_secrets(spec.gateway.image_pull_secrets),
                    "containers": [_container(spec, image=image, pull_policy=pull_policy)],
                    "volumes": [
                        {"name": "npc-internal", "secret": {"secretName": names.SECRET_INTERNAL, "defaultMode": 0o440}},
                        {
                            "name": "npc-routes",
                            "secret": {
                                "secretName": names.routes_secret(meta.name),
                                "defaultMode": 0o440,
                                "optional": True,
                            },
                        },
                        {"name": "npc-state", "emptyDir": {"sizeLimit": "256Mi"}},
                        *_tls_volume(spec),
                    ],
                    "topologySpreadConstraints": [
                        {
                            "topologyKey": key,
                            "maxSkew": 1,
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": selector},
                        }
                        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
                    ],
                },
            },
        },
    }


def _tls_volume(spec: NPCRegionSpec) -> list[dict[str, Any]]:
    """Not optional: a gateway that was to speak TLS waits for its certificate rather than begin without."""
    if spec.gateway.tls is None:
        return []
    return [{"name": TLS_VOLUME, "secret": {"secretName": spec.gateway.tls.secret_name, "defaultMode": 0o440}}]


def _container(spec: NPCRegionSpec, *, image: str, pull_policy: str) -> dict[str, Any]:
    return {
        "name": names.CONTAINER_GATEWAY,
        **image_of(image, pull_policy),
        "command": ["npc-gateway"],
        "args": [
            f"--port={GATEWAY_PORT}",
            f"--admin-port={GATEWAY_ADMIN_PORT}",
            f"--health-port={GATEWAY_HEALTH_PORT}",
            f"--agent-port={AGENT_PORT}",
            f"--internal-dir={INTERNAL_DIR}",
            f"--routes-file={ROUTES_DIR}/{ROUTES_KEY}",
            f"--state-dir={STATE_DIR}",
            f"--shutdown-delay-seconds={SHUTDOWN_DELAY_SECONDS}",
            f"--drain-seconds={drain_seconds(spec)}",
        ],
        "env": [
            build_field_env("NPC_POD_UID", "metadata.uid"),
            *([] if spec.gateway.tls is None else [{"name": TLS_DIR_VARIABLE, "value": TLS_DIR}]),
        ],
        "ports": [
            build_port(data_protocol(spec), GATEWAY_PORT),
            build_port("admin", GATEWAY_ADMIN_PORT),
            build_port("health", GATEWAY_HEALTH_PORT),
        ],
        "startupProbe": build_probe("/healthz", GATEWAY_HEALTH_PORT, period=1, timeout=2, failures=60),
        "livenessProbe": build_probe("/healthz", GATEWAY_HEALTH_PORT, period=10, timeout=5, failures=6),
        "readinessProbe": build_probe("/readyz", GATEWAY_HEALTH_PORT, period=2, timeout=2, failures=2),
        "resources": build_resources(spec.gateway.resources),
        "securityContext": container_security_context(),
        "volumeMounts": [
            build_mount("npc-internal", INTERNAL_DIR, read_only=True),
            build_mount("npc-routes", ROUTES_DIR, read_only=True),
            build_mount("npc-state", STATE_DIR),
            *([] if spec.gateway.tls is None else [build_mount(TLS_VOLUME, TLS_DIR, read_only=True)]),
        ],
    }
