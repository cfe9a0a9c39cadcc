"""Paths of the API, in one place."""

from __future__ import annotations

from . import vocabulary as v


def own(kind: str, namespace: str, name: str = "") -> str:
    """Our kinds; without a namespace those of all namespaces."""
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{v.API_VERSION}{inside}/{v.PLURALS[kind]}" + (f"/{name}" if name else "")


def core(resource: str, namespace: str = "", name: str = "") -> str:
    """Kinds of the core group."""
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"/api/v1{inside}/{resource}" + (f"/{name}" if name else "")


def deployments(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


def lease(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{v.LEASE}"
