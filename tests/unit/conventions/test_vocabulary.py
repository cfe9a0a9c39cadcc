"""Reasons are words for programs: one CamelCase word each, whoever says them."""

from __future__ import annotations

import re

import pytest

from npc_operator.api.crd import crds
from tests.unit.conventions.vocabulary import agent_reasons, condition_reasons, event_reasons, gateway_reasons

ALL = sorted(condition_reasons() | agent_reasons() | gateway_reasons() | event_reasons())


def test_the_vocabulary_is_found_where_it_is_defined() -> None:
    assert {"Serving", "LoadTimeout", "CreateContainerError"} <= condition_reasons()
    assert {"DigestMismatch", "ProbeFailed"} <= agent_reasons()
    assert {"NoResident"} <= gateway_reasons()
    assert {"TrafficMoved", "SecretMade", "SecretRotated", "Ready", "NotReady"} <= event_reasons()


@pytest.mark.parametrize("reason", ALL)
def test_a_reason_is_one_camel_case_word_that_the_schema_accepts(reason: str) -> None:
    assert re.fullmatch(r"([A-Z][a-z0-9]+)+", reason)
    for crd in crds().values():
        status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
        assert re.fullmatch(status["conditions"]["items"]["properties"]["reason"]["pattern"], reason)
