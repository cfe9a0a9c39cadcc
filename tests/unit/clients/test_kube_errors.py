"""How the API server's refusals are understood."""

from __future__ import annotations

import json
from typing import Any

import pytest

from npc_operator.clients.kube_errors import error_of
from npc_operator.clients.resources import RESOURCES, find_resource
from npc_operator.ports import Conflict, NotFound, PortError


def status(code: int, reason: str = "", message: str = "because", causes: list[dict[str, str]] | None = None) -> bytes:
    body: dict[str, Any] = {"kind": "Status", "code": code, "reason": reason, "message": message}
    if causes is not None:
        body["details"] = {"causes": causes}
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("code", "reason", "kind", "retryable"),
    [
        (400, "BadRequest", PortError, False),
        (401, "Unauthorized", PortError, True),
        (403, "Forbidden", PortError, True),
        (404, "NotFound", NotFound, False),
        (409, "Conflict", Conflict, True),
        (409, "AlreadyExists", Conflict, True),
        (410, "Expired", PortError, True),
        (422, "Invalid", PortError, False),
        (429, "TooManyRequests", PortError, True),
        (500, "InternalError", PortError, True),
        (503, "ServiceUnavailable", PortError, True),
    ],
)
def test_each_status_says_what_it_is_and_whether_trying_again_can_help(
    code: int, reason: str, kind: type[PortError], retryable: bool
) -> None:
    error = error_of(code, status(code, reason), "apply Deployment eu/gold")
    assert type(error) is kind
    assert (error.reason, error.retryable, error.code) == (reason, retryable, code)
    assert str(error) == "apply Deployment eu/gold: because"


def test_a_namespace_that_is_going_away_is_as_good_as_gone() -> None:
    body = status(403, "Forbidden", causes=[{"reason": "NamespaceTerminating", "field": "metadata.namespace"}])
    assert type(error_of(403, body, "apply")) is NotFound


def test_another_objects_uid_is_a_conflict_though_the_server_calls_it_invalid() -> None:
    body = status(422, "Invalid", causes=[{"reason": "FieldValueInvalid", "field": "metadata.uid"}])
    assert type(error_of(422, body, "apply")) is Conflict
    other = status(422, "Invalid", causes=[{"reason": "FieldValueInvalid", "field": "spec.replicas"}])
    assert type(error_of(422, other, "apply")) is PortError


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[]", b"null", b'"text"', b'{"details": null}'])
def test_what_a_proxy_says_is_an_error_too(body: bytes) -> None:
    error = error_of(502, body, "get Pod")
    assert error.retryable
    assert str(error).startswith("get Pod: ")


def test_paths_are_those_of_the_api() -> None:
    assert find_resource("v1", "Pod").path("eu", "p") == "/api/v1/namespaces/eu/pods/p"
    assert find_resource("apps/v1", "Deployment").path(None) == "/apis/apps/v1/deployments"
    tiers = find_resource("npcfleet.dev/v1alpha1", "GpuTier")
    assert tiers.path("eu", "gold", "status") == "/apis/npcfleet.dev/v1alpha1/namespaces/eu/gputiers/gold/status"
    assert find_resource("v1", "Node").path("ignored", "n") == "/api/v1/nodes/n"


def test_an_unknown_kind_is_refused_for_good() -> None:
    with pytest.raises(PortError, match="v1 Unheard") as caught:
        find_resource("v1", "Unheard")
    assert not caught.value.retryable
    assert all(resource.kind == kind for (_, kind), resource in RESOURCES.items())
