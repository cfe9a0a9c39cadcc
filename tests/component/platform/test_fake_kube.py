"""What FakeKube offers beyond the port: crashes, failures, listeners, and the world beside the operator.

What it shares with the real API server is proven in tests/contract/kube.
"""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.ports import NotFound, PortError
from tests.support.fake_kube import Call, Crash, FakeKube


def config(name: str = "one", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "eu"}, "data": data}


async def test_every_mutating_call_is_recorded_and_reads_and_other_peoples_are_not() -> None:
    kube = FakeKube()
    kube.put(config("theirs"))
    await kube.apply(config("ours"), manager="npc-operator")
    [item async for item in kube.list("v1", "ConfigMap", namespace="eu")]
    assert [str(call) for call in kube.calls] == ["apply ConfigMap eu/ours"]
    assert kube.calls[0].manager == "npc-operator"


@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
async def test_a_crash_happens_before_or_after_the_call_it_was_set_for(when: str, there: bool) -> None:
    kube = FakeKube()
    kube.crash_at(2, when)
    await kube.apply(config("first"), manager="m")
    with pytest.raises(Crash):
        await kube.apply(config("second"), manager="m")
    assert (kube.find("ConfigMap", "eu", "second") is not None) is there
    await kube.apply(config("third"), manager="m")


async def test_a_failure_lasts_until_it_is_taken_back_and_changes_nothing() -> None:
    kube = FakeKube()

    def first(call: Call) -> bool:
        return call.name == "one"

    mend = kube.fail(PortError("quota", reason="Forbidden"), where=first)
    with pytest.raises(PortError, match="quota"):
        await kube.apply(config("one"), manager="m")
    await kube.apply(config("two"), manager="m")
    assert kube.find("ConfigMap", "eu", "one") is None
    mend()
    await kube.apply(config("one"), manager="m")


async def test_listeners_hear_changes_and_nothing_of_what_changed_nothing() -> None:
    kube = FakeKube()
    kube.put(config("before"))
    heard: list[tuple[str, str]] = []
    stop = kube.listen(lambda event, found: heard.append((event, found["metadata"]["name"])))
    await kube.apply(config("one", k="1"), manager="m")
    await kube.apply(config("one", k="1"), manager="m")
    await kube.apply(config("one", k="2"), manager="m")
    kube.remove("ConfigMap", "eu", "one")
    stop()
    kube.put(config("after"))
    assert heard == [("ADDED", "before"), ("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]


async def test_a_namespace_that_ended_takes_its_objects_and_no_new_ones() -> None:
    kube = FakeKube()
    kube.put(config())
    kube.end_namespace("eu")
    assert kube.all("ConfigMap") == ()
    with pytest.raises(NotFound):
        await kube.apply(config(), manager="m")


async def test_garbage_is_what_all_owners_of_are_gone() -> None:
    kube = FakeKube()
    owner = kube.put(config("owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    child = config("child")
    child["metadata"]["ownerReferences"] = [reference]
    grandchild = config("grandchild")
    kube.put(child)
    found = kube.find("ConfigMap", "eu", "child")
    assert found is not None
    grandchild["metadata"]["ownerReferences"] = [{**reference, "name": "child", "uid": found["metadata"]["uid"]}]
    kube.put(grandchild)
    kube.put(config("other"))
    kube.collect_garbage()
    assert len(kube.all("ConfigMap")) == 4
    kube.remove("ConfigMap", "eu", "owner")
    kube.collect_garbage()
    assert [found["metadata"]["name"] for found in kube.all("ConfigMap")] == ["other"]


async def test_what_is_read_is_a_copy() -> None:
    kube = FakeKube()
    kube.put(config(k="v"))
    found = kube.find("ConfigMap", "eu", "one")
    assert found is not None
    found["data"]["k"] = "changed"
    again = kube.find("ConfigMap", "eu", "one")
    assert again is not None
    assert again["data"] == {"k": "v"}
