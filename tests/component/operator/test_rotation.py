"""Secrets are made once and can be made anew without anybody being left out."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509

from npc_operator.api import names
from npc_operator.manifests.secrets import decode
from npc_operator.ports import Manifest, ObjectRef, PortError
from npc_runtime.wire import server_name
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, adapter, region, secret, tier
from tests.support.fake_kube import Call

DAY = 86400.0


async def settled() -> World:
    world = World()
    world.put(secret("keys", {"game": "key-of-the-game\n", "empty": ""}), region(auth="keys"), tier(), adapter())
    await world.settle()
    world.clock.time += 3600
    world.api.forget_calls()
    return world


def rotate(world: World, annotation: str, value: str = "now") -> None:
    def change(live: dict[str, object]) -> None:
        metadata = live["metadata"]
        assert isinstance(metadata, dict)
        metadata.setdefault("annotations", {})[annotation] = value

    world.edit(names.KIND_REGION, "eu-west", change)


def internal(world: World) -> dict[str, str]:
    return decode(world.live("Secret", names.SECRET_INTERNAL)["data"])


def engine_keys(world: World) -> dict[str, str]:
    return decode(world.live("Secret", names.SECRET_ENGINE_KEY)["data"])


@pytest.mark.parametrize("name", [names.SECRET_INTERNAL, names.SECRET_ENGINE_KEY])
async def test_keys_that_another_leader_made_meanwhile_are_never_overwritten(name: str) -> None:
    """A leader that was late looked before the new one wrote: what it made is on its way nevertheless."""
    other = await settled()
    made = other.live("Secret", name)["data"]
    world = World()
    world.put(secret("keys", {"game": "key-of-the-game"}), region(auth="keys"), tier(), adapter())
    look, looks = world.api.get, 0

    async def look_just_before(ref: ObjectRef) -> Manifest | None:
        nonlocal looks
        found = await look(ref)
        if ref.name == name:
            looks += 1
            if looks == 1:
                assert found is None
                world.api.put({**secret(name, decode(made))}, manager=names.MANAGER_CHILDREN)
        return found

    world.api.get = look_just_before  # type: ignore[method-assign]
    await world.settle()
    assert looks > 1
    assert world.live("Secret", name)["data"] == made
    assert world.live("Secret", name)["metadata"]["ownerReferences"], "what is left is the ordinary keeping"


@pytest.mark.parametrize("name", [names.SECRET_INTERNAL, names.SECRET_ENGINE_KEY])
async def test_new_keys_are_written_only_over_the_version_that_was_looked_at(name: str) -> None:
    world = World()
    world.put(secret("keys", {"game": "key-of-the-game"}), region(auth="keys"), tier(), adapter())
    await world.settle()
    writes = [call for call in world.api.calls if (call.kind, call.name) == ("Secret", name)]
    assert [call.verb for call in writes[:2]] == ["create", "apply"]
    assert "data" not in writes[0].manifest
    assert all(call.manifest["metadata"].get("resourceVersion") for call in writes if call.verb == "apply")


async def test_the_certificate_speaks_for_the_namespace_and_its_authority_signed_it() -> None:
    world = await settled()
    data = internal(world)
    leaf = x509.load_pem_x509_certificate(data["tls.crt"].encode())
    authority = x509.load_pem_x509_certificate(data["ca.crt"].encode())
    names_ = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )
    assert names_ == [server_name(NAMESPACE)]
    leaf.verify_directly_issued_by(authority)
    assert len(data["token"]) >= 40
    assert data["token-previous"] == ""


async def test_api_keys_reach_the_gateways_hashed() -> None:
    world = await settled()
    for gateway in world.doors().values():
        assert gateway.table is not None
        keys = {key.name: key.sha256 for key in gateway.table.api_keys}
        assert keys == {"game": hashlib.sha256(b"key-of-the-game").hexdigest()}
        assert gateway.table.authentication == "ApiKey"
    world.put(secret("keys", {"game": "key-of-the-game", "tools": "another"}))
    await world.settle(seconds=4)
    assert all(len(gateway.table.api_keys) == 2 for gateway in world.doors().values() if gateway.table)


async def test_a_rotated_token_leaves_the_old_one_valid() -> None:
    world = await settled()
    old = internal(world)["token"]
    rotate(world, names.ANNOTATION_ROTATE_TOKEN)
    await world.settle(seconds=5)
    data = internal(world)
    assert data["token-previous"] == old
    assert data["token"] not in ("", old)
    for gateway in world.doors().values():
        assert gateway.table is not None
        assert [token.get_secret_value() for token in gateway.table.agent_tokens] == [data["token"], old]
    # Once per value.
    world.api.forget_calls()
    world.resync()
    await world.settle()
    assert world.writes() == []


async def test_a_second_rotation_waits_until_every_pod_has_the_first() -> None:
    world = await settled()
    rotate(world, names.ANNOTATION_ROTATE_TOKEN, "1")
    await world.settle(seconds=5)
    first = internal(world)["token"]
    rotate(world, names.ANNOTATION_ROTATE_TOKEN, "2")
    await world.settle(seconds=60)
    assert internal(world)["token"] == first
    await world.settle(seconds=180)
    assert internal(world)["token-previous"] == first


async def test_a_rotated_certificate_leaves_the_old_authority_trusted() -> None:
    world = await settled()
    old = internal(world)
    rotate(world, names.ANNOTATION_ROTATE_CERTIFICATE)
    await world.settle(seconds=5)
    data = internal(world)
    new_authority, old_authority = x509.load_pem_x509_certificates(data["ca.crt"].encode())
    assert old_authority == x509.load_pem_x509_certificate(old["ca.crt"].encode())
    x509.load_pem_x509_certificate(data["tls.crt"].encode()).verify_directly_issued_by(new_authority)
    assert all(gateway.table and gateway.table.agent_ca == data["ca.crt"] for gateway in world.doors().values())


async def test_a_certificate_is_renewed_a_month_before_it_ends() -> None:
    world = await settled()
    first = internal(world)["tls.crt"]
    await world.settle(seconds=330 * DAY)
    assert internal(world)["tls.crt"] == first
    await world.settle(seconds=10 * DAY)
    assert internal(world)["tls.crt"] != first
    assert world.said(names.KIND_REGION, "eu-west", "Ready")[0] == "True"


async def test_a_rotated_engine_key_rolls_the_pods_and_the_old_key_goes_last() -> None:
    world = await settled()
    before = set(world.pods("gold"))
    rotate(world, names.ANNOTATION_ROTATE_ENGINE_KEY)
    await world.settle()

    assert not before & set(world.pods("gold"))
    assert set(engine_keys(world)) == {"current", "key-2"}
    for gateway in world.doors().values():
        for table in gateway.history:
            known = {key.id for key in table.engine_keys}
            # No gateway was ever offered a pod whose key it did not have.
            assert {endpoint.engine_key_id for tier_ in table.tiers for endpoint in tier_.endpoints} <= known
    assert "EngineKeyDropped" in world.recorder.reasons("eu-west")


async def test_an_engine_key_whose_secret_was_deleted_comes_back_and_no_pod_notices() -> None:
    world = await settled()
    pods, keys = set(world.pods("gold")), engine_keys(world)
    world.api.remove("Secret", NAMESPACE, names.SECRET_ENGINE_KEY)
    await world.settle()

    assert engine_keys(world) == keys
    assert set(world.pods("gold")) == pods


async def test_engine_keys_come_back_even_if_they_could_not_be_written_at_once() -> None:
    world = await settled()
    pods, keys = set(world.pods("gold")), engine_keys(world)

    def fills_it(call: Call) -> bool:
        return (call.verb, call.kind, call.name) == ("apply", "Secret", names.SECRET_ENGINE_KEY)

    works_again = world.api.fail(PortError("the API server is busy"), where=fills_it)
    world.api.remove("Secret", NAMESPACE, names.SECRET_ENGINE_KEY)
    await world.settle(seconds=5)
    assert "data" not in world.live("Secret", names.SECRET_ENGINE_KEY), "it is there, and empty"
    works_again()
    await world.settle()

    assert engine_keys(world) == keys
    assert set(world.pods("gold")) == pods


async def test_an_engine_key_that_nobody_knows_any_more_gets_a_new_id_and_rolls_the_pods() -> None:
    world = await settled()
    before = set(world.pods("gold"))
    world.api.remove("Secret", NAMESPACE, names.routes_secret("eu-west"))
    world.api.remove("Secret", NAMESPACE, names.SECRET_ENGINE_KEY)
    await world.settle()

    assert set(engine_keys(world)) == {"current", "key-2"}
    assert not before & set(world.pods("gold"))
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"


async def test_an_old_engine_key_stays_while_one_pod_was_started_with_it() -> None:
    world = await settled()
    world.pods_become_ready = False
    rotate(world, names.ANNOTATION_ROTATE_ENGINE_KEY)
    await world.settle(seconds=30)
    assert set(engine_keys(world)) == {"current", "key-1", "key-2"}
    assert engine_keys(world)["current"] == "key-2"
    for agent in world.pods("gold").values():
        agent.engine_ready(world.clock.now())
    await world.settle()
    assert set(engine_keys(world)) == {"current", "key-2"}


async def test_an_old_engine_key_stays_while_a_former_template_could_still_start_a_pod() -> None:
    world = await settled()
    world.controllers_run = False
    rotate(world, names.ANNOTATION_ROTATE_ENGINE_KEY)
    await world.settle(seconds=5)
    for name in world.pods("gold"):
        world.api.remove("Pod", NAMESPACE, name)
    await world.settle(seconds=30)
    # The Deployments name the new key and no pod has the old one, but their controller has not said it caught up.
    assert set(engine_keys(world)) == {"current", "key-1", "key-2"}
    world.controllers_run = True
    await world.settle()
    assert set(engine_keys(world)) == {"current", "key-2"}


@pytest.mark.parametrize("part", ["token", "tls.crt", "tls.key", "ca.crt"])
async def test_what_was_damaged_is_made_anew(part: str) -> None:
    world = await settled()

    def damage(live: dict[str, dict[str, str]]) -> None:
        live["data"][part] = ""

    world.edit("Secret", names.SECRET_INTERNAL, damage)
    await world.settle()
    assert internal(world)[part]


async def test_no_secret_is_in_events_statuses_or_representations() -> None:
    world = await settled()
    rotate(world, names.ANNOTATION_ROTATE_TOKEN)
    rotate(world, names.ANNOTATION_ROTATE_ENGINE_KEY)
    await world.settle()
    secrets = [*internal(world).values(), *engine_keys(world).values(), "key-of-the-game"]
    said = repr(world.recorder.events) + repr(world.gateways.pushes[-1])
    for kind in names.PLURALS:
        said += repr([found["status"] for found in world.peek(kind)])
    for value in secrets:
        if len(value) > 8 and "BEGIN CERTIFICATE" not in value:
            assert value not in said
