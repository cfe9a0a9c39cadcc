"""What the API server's audit log says somebody did: the only witness that no write happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request that was answered."""

    user: str
    verb: str
    resource: str
    """`plural` or `plural/subresource`."""
    namespace: str
    name: str
    code: int
    uri: str
    replicas: int | None = None
    """spec.replicas of what was sent, where the log keeps that (the operator's Deployments)."""


class AuditLog:
    """The log from the moment of construction on; what came before is not looked at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size

    def requests(self) -> Iterator[Request]:
        """Every request that completed since construction (or the last call of a method), in order. A line still being
        written is left for the next call.
        """
        return self._read("ResponseComplete")

    def watches(self) -> Iterator[Request]:
        """Likewise, every watch that was answered: who watches learns of changes from then on."""
        return (seen for seen in self._read("ResponseStarted") if seen.verb == "watch" and seen.code == HTTPStatus.OK)

    def writes(self, user_contains: str) -> list[Request]:
        """Mutating requests by users whose name contains `user_contains`, whatever came of them, leases included."""
        return [seen for seen in self.requests() if seen.verb in WRITES and user_contains in seen.user]

    def _read(self, stage: str) -> Iterator[Request]:
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for raw in log:
                if not raw.endswith(b"\n"):
                    return
                self._offset += len(raw)
                event = json.loads(raw)
                if event.get("stage") == stage:
                    yield _request(event)


def _request(event: dict[str, object]) -> Request:
    def part(key: str) -> dict[str, object]:
        value = event.get(key) or {}
        assert isinstance(value, dict)
        return value

    reference, user, answer = part("objectRef"), part("user"), part("responseStatus")
    spec = part("requestObject").get("spec")
    replicas = spec.get("replicas") if isinstance(spec, dict) else None
    subresource = reference.get("subresource")
    return Request(
        user=str(user.get("username", "")),
        verb=str(event.get("verb", "")),
        resource=f"{reference.get('resource', '')}/{subresource}"
        if subresource
        else str(reference.get("resource", "")),
        namespace=str(reference.get("namespace", "")),
        name=str(reference.get("name", "")),
        code=int(str(answer.get("code", 0))),
        uri=str(event.get("requestURI", "")),
        replicas=replicas,
    )
