"""The audit log's reader: the witness that no write happened must not overlook one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hack.stack.audit import AuditLog


def event(verb: str, user: str, *, stage: str = "ResponseComplete", **reference: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "verb": verb,
        "user": {"username": user},
        "objectRef": reference,
        "responseStatus": {"code": 200},
        "requestURI": "/apis/x",
    }


def append(path: Path, *events: dict[str, Any], end: str = "\n") -> None:
    with path.open("a") as log:
        log.write("\n".join(json.dumps(entry) for entry in events) + end)


OPERATOR = "system:serviceaccount:npc-system:npc-operator"


def test_what_was_before_does_not_count_and_nothing_counts_twice(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    append(path, event("create", OPERATOR, resource="pods"))
    log = AuditLog(path)
    assert log.writes("npc-operator") == []
    append(path, event("patch", OPERATOR, resource="gputiers", subresource="status", name="gold", namespace="eu"))
    (seen,) = log.writes("npc-operator")
    assert (seen.verb, seen.resource, seen.namespace, seen.name) == ("patch", "gputiers/status", "eu", "gold")
    assert log.writes("npc-operator") == []


def test_every_mutating_verb_is_a_write_and_no_reading_one_is(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.touch()
    log = AuditLog(path)
    verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
    append(path, *(event(verb, OPERATOR, resource="pods") for verb in verbs))
    assert [seen.verb for seen in log.writes("npc-operator")] == verbs[3:]


def test_other_peoples_writes_and_unfinished_requests_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.touch()
    log = AuditLog(path)
    append(path, event("patch", "kubelet"), event("patch", OPERATOR, stage="ResponseStarted"))
    assert log.writes("npc-operator") == []


def test_a_line_still_being_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.touch()
    log = AuditLog(path)
    append(path, event("patch", OPERATOR, resource="pods"), end="")
    assert log.writes("npc-operator") == []
    append(path, end="\n")
    assert len(log.writes("npc-operator")) == 1


def test_a_watch_counts_from_its_answer_on_and_one_that_was_refused_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.touch()
    log = AuditLog(path)
    refused = event("watch", "system:node:b", stage="ResponseStarted") | {"responseStatus": {"code": 403}}
    append(path, event("watch", "system:node:a", stage="ResponseStarted"), event("list", "system:node:c"), refused)
    assert [seen.user for seen in log.watches()] == ["system:node:a"]
    append(path, event("watch", "system:node:a"))
    assert list(log.watches()) == [], "its end is no beginning"


def test_replicas_are_told_where_the_log_keeps_what_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.touch()
    log = AuditLog(path)
    asked = event("patch", OPERATOR, resource="deployments") | {"requestObject": {"spec": {"replicas": 3}}}
    append(path, asked, event("patch", OPERATOR, resource="deployments"))
    assert [seen.replicas for seen in log.writes("npc-operator")] == [3, None]
