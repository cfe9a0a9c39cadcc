"""The Secrets the operator keeps: the namespace's internal certificate and tokens, its engine keys, and a region's last
route table.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from npc_operator.api import names
from npc_operator.api.meta import ObjectMeta
from npc_operator.manifests.gateway_deployment import ROUTES_KEY
from npc_operator.manifests.labels import common_labels, controller_reference, gateway_labels


def encode(data: Mapping[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in sorted(data.items())}


def decode(data: Mapping[str, str] | None) -> dict[str, str]:
    """A Secret's data as text; what is not text is left out."""
    decoded: dict[str, str] = {}
    for key, value in (data or {}).items():
        try:
            decoded[key] = base64.b64decode(value, validate=True).decode()
        except ValueError:
            continue
    return decoded


def build_namespace_secret(
    name: str, namespace: str, *, data: Mapping[str, str], handled: str, owners: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A Secret of the whole namespace: it goes when the last of its owners is gone."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": common_labels(component=names.COMPONENT_SECRET, instance=name),
            "annotations": {names.ANNOTATION_HANDLED: handled},
            "ownerReferences": [dict(owner) for owner in owners],
        },
        "data": encode(data),
    }


def build_empty_secret(name: str, namespace: str, *, owners: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is created before it is filled: only an object that is there has a version to write its first keys over.
    Nothing is in it that its later keeper would have to take back from its creator.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": [dict(owner) for owner in owners]},
    }


def build_routes_secret(meta: ObjectMeta, packed: bytes) -> dict[str, Any]:
    """The Secret with a region's last routes, as `domain.routes.pack_routes` made them."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": names.routes_secret(meta.name),
            "namespace": meta.namespace,
            "labels": gateway_labels(meta.name),
            "ownerReferences": [controller_reference(names.KIND_REGION, meta)],
        },
        "data": {ROUTES_KEY: base64.b64encode(packed).decode()},
    }
