"""Who changed what moves traffic."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.domain.facts import NOBODY, Adapter
from npc_operator.edge.managers import find_managers
from npc_operator.edge.parse import parse
from tests.support.builders import adapter, digest
from tests.support.fake_kube import FakeKube


def entry(manager: str, *tiers: str, time: str = "", approves: bool = False, **more: Any) -> dict[str, Any]:
    source: dict[str, Any] = {"f:source": {"f:digest": {}, "f:uri": {}}}
    spec: dict[str, Any] = {"f:variants": {f'k:{{"tier":"{tier}"}}': {".": {}, **source} for tier in tiers}}
    if approves:
        spec["f:rollout"] = {"f:approvedDigest": {}}
    return {"manager": manager, "time": time, "fieldsV1": {"f:spec": spec}, **more}


def test_the_last_to_write_a_digest_is_named_per_tier() -> None:
    own = {"manager": "kubectl-npc", "fieldsV1": {"f:spec": {"f:quarantinedDigests": {}}}}
    found = find_managers(
        {
            "managedFields": [
                own,
                entry("kubectl-edit", "gold", time="2026-11-02T00:00:00Z"),
                entry("argocd", "gold", "silver", time="2026-11-01T00:00:00Z", approves=True),
                entry("npc-operator-status", "gold", time="2026-11-09T00:00:00Z", subresource="status"),
            ]
        }
    )
    assert (found.digest("gold"), found.digest("silver"), found.digest("bronze")) == ("kubectl-edit", "argocd", "")
    assert (found.approval, found.quarantine) == ("argocd", "kubectl-npc")


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        [{}],
        [{"manager": "x", "fieldsV1": None}],
        [{"manager": "x", "fieldsV1": {"f:spec": {"f:variants": {"k:nonsense": {"f:source": {"f:digest": {}}}}}}}],
        [{"manager": "x", "fieldsV1": {"f:spec": {"f:variants": {'k:["gold"]': {"f:source": {"f:digest": {}}}}}}}],
        [{"manager": "x", "fieldsV1": {"f:spec": {"f:variants": {".": {}}, "f:rollout": []}}}],
    ],
)
def test_what_cannot_be_understood_names_nobody(fields: Any) -> None:
    assert find_managers({"managedFields": fields}) == NOBODY


def test_a_fact_keeps_the_names_and_equal_ones_once() -> None:
    kube = FakeKube()
    facts = []
    for archetype in ("vampire", "zombie"):
        manifest = adapter(archetype)
        kube.put(manifest, manager="flux")
        manifest["spec"]["variants"][0]["source"]["digest"] = digest("next")
        live = kube.put(manifest, manager="kubectl")
        fact = parse(live["apiVersion"], live["kind"], live).fact
        assert isinstance(fact, Adapter)
        facts.append(fact)
    assert facts[0].changed_by.digest("gold") == "kubectl"
    assert facts[0].changed_by is facts[1].changed_by
