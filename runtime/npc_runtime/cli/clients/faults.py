"""What the API server refuses, and every other way of not being answered, as errors that say what to do."""

from __future__ import annotations

import json
import re
from typing import Any

from ..ports import CliError, Conflict, Forbidden, NoCluster, NotFound, NotReached, Refused

KILLED = ("exit code 137", "exit code 143")
"""How a command ends whose container goes away under it."""
_VERBS = {"GET": "get", "DELETE": "delete", "POST": "create", "PATCH": "patch"}


class Expired(NoCluster):
    """The rest of a list is not kept any longer: it has to be read from its beginning."""


def unreached(client: Any, error: object) -> NoCluster:
    return NoCluster(
        f"the API server at {client.configuration.host} does not answer: {error}", step="kubectl cluster-info"
    )


def message_of(data: bytes) -> str:
    """What a Status object says."""
    try:
        parsed = json.loads(data)
    except ValueError:
        return ""
    return str(parsed.get("message", "")) if isinstance(parsed, dict) else ""


def fault(status: int, message: str, method: str, path: str, *, listing: bool) -> CliError:
    """The API server's refusal as one of ours."""
    resource, namespace, name = split_path(path)
    if status == 401:
        return NoCluster(f"the API server does not know you: {message}", step="kubectl auth whoami")
    if method == "PATCH" and (status in (400, 422) or (status == 403 and "admission" in message)):
        return Refused(f"the API server refuses the change: {message}")
    if method == "PATCH" and status == 409:
        return Conflict(f"{resource}/{name} was changed by somebody else meanwhile")
    if status == 403:
        verb = "list" if listing else _VERBS.get(method, method.lower())
        return Forbidden(f"{verb} {resource}", namespace)
    if status == 404:
        what = f"{resource}/{name}" if name else resource
        return NotFound(f"there is no {what}" + (f" in namespace {namespace}" if namespace else ""))
    if status == 409:
        return NotFound(f"{resource}/{name} is not the one that was looked at any more")
    answer = f"the API server answered {status} for {resource}: {message}"
    return Expired(answer) if status == 410 else NoCluster(answer)


def split_path(path: str) -> tuple[str, str, str]:
    """(resource as `kubectl auth can-i` names it, namespace, name) of an API path."""
    parts = path.strip("/").split("/")
    group = ""
    if parts[0] == "apis":
        group, parts = parts[1], parts[3:]
    else:
        parts = parts[2:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    name = parts[1] if len(parts) > 1 else ""
    resource = f"{parts[0]}/{parts[2]}" if len(parts) > 2 else parts[0]
    dotted = resource if not group or group == "apps" else f"{resource}.{group}"
    return dotted, namespace, name


def failure(status: bytes) -> str:
    """What exec says went wrong, empty where it did not or where the container ended under it."""
    try:
        parsed = json.loads(status)
    except ValueError:
        return ""
    if not isinstance(parsed, dict) or parsed.get("status") == "Success":
        return ""
    message = str(parsed.get("message", ""))
    return "" if message.endswith(KILLED) else message


def stream_fault(told: str, right: str, namespace: str, pod: str) -> CliError:
    """Opening a stream failed: the library has the HTTP status in its first words, before headers with ids of any
    digits.
    """
    status = told.removeprefix("Handshake status ")[:3] if told.startswith("Handshake status ") else ""
    if status == "403":
        # A stream is opened by GET; some versions ask for the right to get it, others to create it.
        verb = re.search(r"cannot (get|create) resource", told)
        return Forbidden(f"{verb.group(1)} {right.partition(' ')[2]}" if verb is not None else right, namespace)
    if status == "404":
        return NotFound(f"there is no pod {pod} in namespace {namespace}")
    return NotReached(f"pod {pod} cannot be reached: {told.splitlines()[0][:200]}")
