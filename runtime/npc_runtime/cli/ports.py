"""What the commands need of a cluster, and every way it can say no. The caller's own rights decide; nothing is retried
with others.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .answers import Code

Object = Mapping[str, Any]

REQUEST_SECONDS = 30.0
"""Longest silence of the API server, or of a pod behind it, unless the caller says otherwise."""


class CliError(Exception):
    """Ends a command with a sentence for its user and an exit code."""

    def __init__(self, message: str, code: Code, *, step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.step = step
        """What to do about it, empty if there is nothing to say."""


class Forbidden(CliError):
    """The caller lacks a right; `right` is the words of `kubectl auth can-i`."""

    def __init__(self, right: str, namespace: str) -> None:
        where = f" -n {namespace}" if namespace else ""
        super().__init__(
            f"you may not {right}" + (f" in namespace {namespace}" if namespace else ""),
            Code.FORBIDDEN,
            step=f"ask for the right, then check it with: kubectl auth can-i {right}{where}",
        )
        self.right = right


class NotFound(CliError):
    """An object, or a kind of objects, is not there."""

    def __init__(self, message: str, *, step: str = "") -> None:
        super().__init__(message, Code.NOT_FOUND, step=step)


class NoCluster(CliError):
    """The API server, or the way to it, is not there."""

    def __init__(self, message: str, *, step: str = "") -> None:
        super().__init__(message, Code.NO_CLUSTER, step=step)


class NotReached(CliError):
    """A pod did not answer through the API server."""

    def __init__(self, message: str, *, step: str = "") -> None:
        super().__init__(message, Code.NOT_REACHED, step=step)


class Refused(CliError):
    """The API server understood a change and does not take it: a rule of the kind, or an admission policy."""

    def __init__(self, message: str, *, step: str = "") -> None:
        super().__init__(message, Code.REFUSED, step=step)


class Conflict(CliError):
    """Somebody else changed the object since it was read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Code.REFUSED, step="look again and repeat the command")


class Cluster(Protocol):
    """One cluster as its API server shows it to this caller.

    Every method raises Forbidden, NotFound (404) or NoCluster; paths are those of the API, without a query.
    """

    @property
    def namespace(self) -> str:
        """The namespace that the kubeconfig's context names, or `default`."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...

    def get(self, path: str) -> Object:
        """One object."""
        ...

    def list(self, path: str, *, selector: str = "") -> Sequence[Object]:
        """All objects of a collection, page by page."""
        ...

    def delete(self, path: str, *, uid: str) -> None:
        """Ask for the deletion of the object with this uid, with its own grace period. Raises NotFound if the object
        with that name is another one by now.
        """
        ...

    def patch(self, path: str, body: Object, *, manager: str, dry_run: bool) -> Object:
        """The object after a merge patch, written as `manager`; with `dry_run` the API server only says what would
        become of it. Raises Conflict if `body` names a resourceVersion that is not the object's any more, and Refused.
        """
        ...

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> str:
        """The last lines of a container's log."""
        ...

    def execute(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> None:
        """Run a command in a container and wait for it. Raises NotReached if it cannot be run."""
        ...

    def forward(self, namespace: str, pod: str, port: int) -> AbstractContextManager[socket.socket]:
        """A connection to a pod's port through the API server. Raises NotReached."""
        ...
