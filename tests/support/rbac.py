"""The rights table as RBAC objects, for a user who has nothing else: proves that the table is enough."""

from __future__ import annotations

from typing import Any

from npc_operator.rights import PATH_RIGHTS, RIGHTS, Right, Scope

RBAC = "rbac.authorization.k8s.io"


def rules(*scopes: Scope) -> list[dict[str, Any]]:
    """PolicyRules of all rights of some scopes."""
    chosen: list[Right] = [right for right in RIGHTS if right.scope in scopes]
    return [{"apiGroups": [r.group], "resources": [r.resource], "verbs": list(r.verbs)} for r in chosen]


def _subject(user: str) -> list[dict[str, str]]:
    return [{"kind": "User", "name": user, "apiGroup": RBAC}]


def cluster_wide(user: str, *scopes: Scope) -> list[dict[str, Any]]:
    """ClusterRole and binding."""
    name = f"test-{user}"
    paths = [{"nonResourceURLs": list(right.paths), "verbs": list(right.verbs)} for right in PATH_RIGHTS]
    granted = [*rules(*scopes), *paths]
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": granted},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
            "subjects": _subject(user),
        },
    ]


def in_namespace(user: str, namespace: str, *scopes: Scope) -> list[dict[str, Any]]:
    """Role and binding."""
    meta = {"name": f"test-{user}-{'-'.join(scopes)}", "namespace": namespace}
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": meta, "rules": rules(*scopes)},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": meta["name"]},
            "subjects": _subject(user),
        },
    ]
