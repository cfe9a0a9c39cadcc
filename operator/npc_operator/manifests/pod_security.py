"""What makes our pods acceptable to Pod Security "restricted", in one place for engines and gateways."""

from __future__ import annotations

from typing import Any

UID = 2000
"""User and group of every container; needs no passwd entry in any image."""


def pod_security_context() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        # Volumes that already belong to the group are not walked again: a claim with a large model mounts at once.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security_context() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }
