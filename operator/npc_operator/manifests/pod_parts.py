"""Small pieces of containers. Empty values are left out, because the API server leaves them out too."""

from __future__ import annotations

from typing import Any

from npc_operator.api.gputier import GpuTierSpec, Resources, VolumeMount


def pick_mounts(spec: GpuTierSpec, paths: tuple[str, ...]) -> list[VolumeMount]:
    """The engine's own mounts under which these paths lie (or that lie under them)."""

    def related(mount: str, path: str) -> bool:
        mount, path = mount.rstrip("/") + "/", path.rstrip("/") + "/"
        return path.startswith(mount) or mount.startswith(path)

    return [mount for mount in spec.engine.volume_mounts if any(related(mount.mount_path, path) for path in paths)]


def image_of(image: str, pull_policy: str) -> dict[str, Any]:
    return {"image": image, **({"imagePullPolicy": pull_policy} if pull_policy else {})}


def build_mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def build_user_mount(mount: VolumeMount, *, read_only: bool = False) -> dict[str, Any]:
    built = build_mount(mount.name, mount.mount_path, read_only=read_only or mount.read_only)
    return {**built, "subPath": mount.sub_path} if mount.sub_path else built


def build_resources(resources: Resources) -> dict[str, Any]:
    built: dict[str, Any] = {}
    if resources.requests:
        built["requests"] = {name: str(amount) for name, amount in resources.requests.items()}
    if resources.limits:
        built["limits"] = {name: str(amount) for name, amount in resources.limits.items()}
    return built


def build_field_env(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def build_port(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "containerPort": port, "protocol": "TCP"}


def build_probe(path: str, port: int, *, period: int, timeout: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
