"""A certificate for game servers that is missing, broken or ends: gateways serve on as they did, and the region says
what to do."""

from __future__ import annotations

from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.reconcilers.material import CERTIFICATE_DAYS, make_certificate
from tests.component.operator.harness import START, World
from tests.support.builders import NAMESPACE, adapter, region, secret, tier

GOOD, OTHER = make_certificate("game", START), make_certificate("game", START)
PAIR = {"tls.crt": GOOD.certificate, "tls.key": GOOD.private_key}
MIXED = {"tls.crt": GOOD.certificate, "tls.key": OTHER.private_key}


async def settled(secret_name: str | None = None) -> World:
    world = World()
    world.put(region(), tier(), adapter())
    if secret_name is not None:
        set_tls(world, secret_name)
    await world.settle()
    return world


def set_tls(world: World, secret_name: str) -> None:
    world.edit(
        names.KIND_REGION, "eu-west", lambda live: live["spec"]["gateway"].update(tls={"secretName": secret_name})
    )


def protocol(world: World) -> str:
    """What the Service sends to, which has to be what the pods of the Deployment offer."""
    (port,) = world.live("Service", names.gateway("eu-west"))["spec"]["ports"]
    template = world.live("Deployment", names.gateway("eu-west"))["spec"]["template"]
    offered = {one["name"] for one in template["spec"]["containers"][0]["ports"]}
    assert port["targetPort"] in offered
    return str(port["targetPort"])


def mounted(world: World) -> list[str]:
    template = world.live("Deployment", names.gateway("eu-west"))["spec"]["template"]
    return [one["secret"]["secretName"] for one in template["spec"]["volumes"] if one["name"] == "npc-tls"]


def stalled(world: World) -> tuple[str, str]:
    _, reason, message = world.said(names.KIND_REGION, "eu-west", "Stalled")
    return reason, message


async def test_gateways_serve_on_as_before_until_the_secret_is_there() -> None:
    world = await settled()
    pods = set(world.doors())
    set_tls(world, "cert")
    await world.settle()
    reason, message = stalled(world)
    assert reason == reasons.SECRET_NOT_FOUND
    assert f"kubectl create secret tls cert --cert=FILE --key=FILE -n {NAMESPACE}" in message
    assert (protocol(world), mounted(world), set(world.doors())) == ("http", [], pods)
    assert world.said(names.KIND_REGION, "eu-west", "Ready")[0] == "True"
    assert world.status(names.KIND_REGION, "eu-west")["endpoint"].startswith("http://")

    world.put(secret("cert", PAIR))
    await world.settle()
    assert stalled(world) == ("", "")
    assert (protocol(world), mounted(world)) == ("https", ["cert"])
    assert world.status(names.KIND_REGION, "eu-west")["endpoint"].startswith("https://")
    assert world.recorder.reasons("eu-west").count("Recovered") == 1


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({}, "it has no tls.crt and no tls.key"),
        ({**PAIR, "tls.crt": "hello"}, "tls.crt holds no certificate in PEM form"),
        (MIXED, "tls.key is not the key of the first certificate in tls.crt"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_not_changed_over_to(data: dict[str, str], fault: str) -> None:
    world = await settled()
    world.put(secret("cert", data))
    set_tls(world, "cert")
    await world.settle()
    reason, message = stalled(world)
    assert (reason, fault in message) == (reasons.CERTIFICATE_INVALID, True), message
    assert protocol(world) == "http"
    world.put(secret("cert", PAIR))
    await world.settle()
    assert (stalled(world), protocol(world)) == (("", ""), "https")


async def test_a_certificate_that_goes_or_breaks_while_it_serves_changes_no_pod_and_is_told() -> None:
    world = World()
    world.put(secret("cert", PAIR))
    world.put(region(spec={"gateway": {"auth": {"mode": "None"}, "tls": {"secretName": "cert"}}}), tier(), adapter())
    await world.settle()
    assert (stalled(world), protocol(world)) == (("", ""), "https")
    pods = set(world.doors())
    for data, reason in ((MIXED, reasons.CERTIFICATE_INVALID), (None, reasons.SECRET_NOT_FOUND)):
        if data is None:
            world.api.remove("Secret", NAMESPACE, "cert")
        else:
            world.put(secret("cert", data))
        await world.settle()
        assert stalled(world)[0] == reason
        assert (protocol(world), mounted(world), set(world.doors())) == ("https", ["cert"], pods)
        assert world.said(names.KIND_REGION, "eu-west", "Ready")[0] == "True"
    world.put(secret("cert", PAIR))
    await world.settle()
    assert stalled(world) == ("", "")


async def test_a_mistyped_secret_leaves_gateways_with_the_one_they_have() -> None:
    world = World()
    world.put(secret("cert", PAIR))
    world.put(region(spec={"gateway": {"auth": {"mode": "None"}, "tls": {"secretName": "cert"}}}), tier(), adapter())
    await world.settle()
    set_tls(world, "crt")
    await world.settle()
    assert stalled(world)[0] == reasons.SECRET_NOT_FOUND
    assert (protocol(world), mounted(world)) == ("https", ["cert"])
    world.edit(names.KIND_REGION, "eu-west", lambda live: live["spec"]["gateway"].update(replicas=3))
    await world.settle()
    assert len(world.doors()) == 3, "everything else of the spec is carried out"
    assert mounted(world) == ["cert"]


async def test_a_region_that_begins_without_its_certificate_never_speaks_plain_http() -> None:
    world = World()
    world.put(region(spec={"gateway": {"auth": {"mode": "None"}, "tls": {"secretName": "cert"}}}), tier(), adapter())
    await world.settle()
    assert stalled(world)[0] == reasons.SECRET_NOT_FOUND
    assert (protocol(world), mounted(world)) == ("https", ["cert"])


async def test_a_new_leader_that_has_not_read_the_secret_yet_changes_nothing() -> None:
    world = World()
    world.put(secret("cert", PAIR))
    world.put(region(spec={"gateway": {"auth": {"mode": "None"}, "tls": {"secretName": "cert"}}}), tier(), adapter())
    await world.settle()
    before = world.writes_of("Deployment"), world.writes_of("Service"), world.writes_of(names.KIND_REGION)
    world.forget_certificates()
    world.lead()
    await world.settle()
    assert (world.writes_of("Deployment"), world.writes_of("Service"), world.writes_of(names.KIND_REGION)) == before


async def test_a_certificate_that_ended_is_told() -> None:
    world = World()
    world.put(secret("cert", PAIR))
    world.put(region(spec={"gateway": {"auth": {"mode": "None"}, "tls": {"secretName": "cert"}}}), tier(), adapter())
    await world.settle()
    world.clock.time += CERTIFICATE_DAYS * 86_400
    world.resync()
    await world.settle()
    reason, message = stalled(world)
    assert (reason, "ended at" in message) == (reasons.CERTIFICATE_INVALID, True)


async def test_nothing_of_the_key_is_kept_or_said() -> None:
    world = World()
    world.put(secret("cert", MIXED))
    world.put(region(spec={"gateway": {"auth": {"mode": "None"}, "tls": {"secretName": "cert"}}}), tier(), adapter())
    await world.settle()
    inside = OTHER.private_key.splitlines()[1]
    told: list[Any] = [world.recorder.events, world.status(names.KIND_REGION, "eu-west"), *world.certificates()]
    assert world.certificates()
    assert inside not in repr(told)
