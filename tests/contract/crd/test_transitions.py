"""What may follow on what: a quarantined digest that is in use may be named, and none may be brought in, by the real
API server's word."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from npc_operator.api.names import MANAGER_STATUS
from tests.contract.crd.api_server import Answer, Namespace
from tests.contract.crd.objects import DIGEST, valid

KIND = "ArchetypeAdapter"
OTHER, THIRD = ("sha256:" + character * 64 for character in "ab")
NUMBERS = itertools.count(1)
REFUSED = [("spec.variants", "a quarantined digest cannot be brought in")]


def variants(**digests: str) -> list[dict[str, Any]]:
    return [{"tier": tier, "source": {"uri": "s3://voices/v", "digest": digest}} for tier, digest in digests.items()]


@pytest.fixture
def voice(namespace: Namespace) -> str:
    """An adapter of its own that serves DIGEST on gold, and has THIRD in quarantine."""
    name = f"voice-{next(NUMBERS)}"
    manifest = valid(KIND, name)
    manifest["spec"] |= {"variants": variants(gold=DIGEST), "quarantinedDigests": [THIRD]}
    created = namespace.create(manifest)
    assert created.code == 201, created.body.get("message")
    return name


def refusal(answer: Answer) -> list[tuple[str, str]]:
    assert answer.code == 422, answer.body.get("message") or answer.body["spec"]
    return [(field, REFUSED[0][1] if REFUSED[0][1] in message else message) for field, message in answer.causes]


def test_the_digest_that_is_in_use_may_be_quarantined_and_everything_else_still_be_changed(
    namespace: Namespace, voice: str
) -> None:
    def merge(**spec: Any) -> None:
        answer = namespace.merge(KIND, voice, {"spec": spec})
        assert answer.code == 200, answer.body.get("message")

    merge(quarantinedDigests=[THIRD, DIGEST])
    merge(suspend=True)
    merge(importance="Critical", rollout={"ceilingPercent": 10})
    uri_alone = variants(gold=DIGEST)
    uri_alone[0]["source"]["uri"] = "s3://voices/elsewhere"
    merge(variants=uri_alone)
    merge(variants=variants(gold=OTHER))
    merge(quarantinedDigests=[])
    merge(variants=variants(gold=DIGEST))


def test_the_operator_can_say_what_it_sees_of_a_quarantined_digest(namespace: Namespace, voice: str) -> None:
    assert namespace.merge(KIND, voice, {"spec": {"quarantinedDigests": [DIGEST]}}).code == 200
    variant = {"tier": "gold", "serving": "Scripted", "reason": "Quarantined"}
    degraded = {"tier": "gold", "level": "Scripted", "message": "answered by scripted lines"}
    said = {"observedGeneration": 2, "variants": [variant], "degraded": [degraded]}
    manifest = {key: value for key, value in valid(KIND, voice).items() if key != "spec"} | {"status": said}
    answer = namespace.apply(manifest, manager=MANAGER_STATUS, subresource="status")
    assert answer.code == 200, answer.body.get("message")
    assert answer.body["status"]["variants"][0]["serving"] == "Scripted"
    assert answer.body["status"]["degraded"] == [degraded]


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"variants": variants(gold=THIRD)}, id="the digest of a variant becomes a quarantined one"),
        pytest.param({"variants": variants(gold=DIGEST, silver=THIRD)}, id="another variant brings one in"),
        pytest.param(
            {"variants": variants(gold=OTHER), "quarantinedDigests": [OTHER]}, id="one write names and quarantines it"
        ),
        pytest.param(
            {"variants": variants(gold=DIGEST, silver=DIGEST), "quarantinedDigests": [DIGEST]},
            id="what one tier has is new on another",
        ),
        pytest.param({"variants": variants(silver=DIGEST), "quarantinedDigests": [DIGEST]}, id="it changes its tier"),
    ],
)
def test_a_quarantined_digest_is_brought_in_by_no_change(
    namespace: Namespace, voice: str, spec: dict[str, Any]
) -> None:
    assert refusal(namespace.merge(KIND, voice, {"spec": spec}, dry_run=True)) == REFUSED


def test_a_digest_that_was_left_because_of_its_quarantine_does_not_come_back(namespace: Namespace, voice: str) -> None:
    assert namespace.merge(KIND, voice, {"spec": {"quarantinedDigests": [DIGEST]}}).code == 200
    assert namespace.merge(KIND, voice, {"spec": {"variants": variants(gold=OTHER)}}).code == 200
    assert refusal(namespace.merge(KIND, voice, {"spec": {"variants": variants(gold=DIGEST)}})) == REFUSED


def test_server_side_apply_is_held_to_the_same(namespace: Namespace, voice: str) -> None:
    manifest = valid(KIND, voice)
    manifest["spec"] |= {"variants": variants(gold=THIRD)}
    assert refusal(namespace.apply(manifest, manager="flux")) == REFUSED
