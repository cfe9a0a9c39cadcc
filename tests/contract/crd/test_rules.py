"""Every rule of the API, kept and broken, on a real API server: what it refuses, where, and in which words."""

from __future__ import annotations

import pytest

from tests.contract.crd.api_server import Namespace
from tests.contract.crd.case import Case, Changes
from tests.contract.crd.cases import CASES, IMMUTABLE
from tests.contract.crd.objects import changed, valid


def spread(cases: tuple[Case, ...], part: str) -> list[object]:
    return [
        pytest.param(case, changes, id=f"{case.name}-{number}")
        for case in cases
        for number, changes in enumerate(getattr(case, part))
    ]


@pytest.mark.parametrize(("case", "changes"), spread(CASES, "accept"))
def test_an_object_that_keeps_the_rule_is_accepted(namespace: Namespace, case: Case, changes: Changes) -> None:
    answer = namespace.create(changed(valid(case.kind), changes), dry_run=True)
    assert answer.code == 201, answer.body.get("message")


@pytest.mark.parametrize(("case", "changes"), spread(CASES, "refuse"))
def test_an_object_that_breaks_the_rule_is_refused_with_place_and_reason(
    namespace: Namespace, case: Case, changes: Changes
) -> None:
    answer = namespace.create(changed(valid(case.kind), changes), dry_run=True)
    assert answer.code == 422
    field = case.field.replace(".0.", "[0].")
    found = [message for where, message in answer.causes if where == field]
    assert any(case.message in message for message in found), answer.causes


@pytest.mark.parametrize(("kind", "patch", "field", "message"), IMMUTABLE, ids=lambda value: str(value)[:20])
def test_what_is_immutable_can_be_set_once_and_never_changed(
    namespace: Namespace, kind: str, patch: Changes, field: str, message: str
) -> None:
    name = f"fixed-{kind.lower()}"
    created = namespace.create(valid(kind, name))
    assert created.code == 201, created.body.get("message")
    same = namespace.merge(kind, name, {"spec": {"suspend": True}}, dry_run=True)
    assert same.code == 200
    answer = namespace.merge(kind, name, patch, dry_run=True)
    assert answer.code == 422
    assert [where for where, _ in answer.causes] == [field]
    assert message in answer.causes[0][1]
