"""What gateways are told beside aliases and endpoints: voices, fallbacks, callers, shares; and what is said of them."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from npc_operator.api import names
from npc_operator.domain import reasons
from npc_operator.domain.conditions import QUARANTINED, STALLED
from npc_operator.domain.facts import ISSUER, IssuerFact
from npc_runtime.wire import RouteTable, TierRoutes
from tests.component.operator.harness import World
from tests.support.builders import NAMESPACE, adapter, digest, region, secret, tier

PERSONA = {"persona": {"systemPrompt": "You are old.", "scriptedLines": ["Leave me."]}}


async def settled(*more: dict[str, Any], **options: Any) -> World:
    world = World()
    world.put(region(tiers={"gold": 100, "silver": 50}, **options), tier(), tier("silver"), adapter(), *more)
    await world.settle()
    return world


def table(world: World) -> RouteTable:
    """What all gateways have."""
    tables = {gateway.stamp.order(): gateway.table for gateway in world.doors().values()}
    (found,) = tables.values()
    assert found is not None
    return found


def part(world: World, name: str) -> TierRoutes:
    return next(one for one in table(world).tiers if one.name == name)


def set_spec(world: World, kind: str, name: str, **fields: Any) -> None:
    world.edit(kind, name, lambda live: live["spec"].update(fields))


# --- voices ---


async def test_a_voice_is_told_before_any_digest_of_it_is_proven() -> None:
    world = await settled()
    assert [voice.archetype for voice in table(world).voices] == ["vampire"]
    for agent in world.pods("gold").values():
        agent.holding = True
    world.put(adapter("zombie", spec={"importance": "Ambient", **PERSONA}))
    await world.settle(seconds=2)
    voices = {voice.archetype: voice for voice in table(world).voices}
    assert voices["zombie"].importance == "Ambient"
    assert voices["zombie"].scripted_lines == ("Leave me.",)
    assert "zombie" not in world.doors()[next(iter(world.doors()))].routes("gold")


async def test_a_changed_persona_reaches_the_gateways_and_a_voice_nobody_selects_leaves_them() -> None:
    world = await settled()
    set_spec(world, names.KIND_ADAPTER, "vampire", **PERSONA)
    await world.settle(seconds=2)
    assert table(world).voices[0].system_prompt == "You are old."
    set_spec(world, names.KIND_REGION, "eu-west", adapterSelector={"matchLabels": {"side": "dark"}})
    await world.settle(seconds=2)
    assert table(world).voices == ()
    world.edit(names.KIND_ADAPTER, "vampire", lambda live: live["metadata"].update(labels={"side": "dark"}))
    await world.settle(seconds=2)
    assert [voice.archetype for voice in table(world).voices] == ["vampire"]
    world.api.remove(names.KIND_ADAPTER, NAMESPACE, "vampire")
    await world.settle(seconds=2)
    assert table(world).voices == ()


async def test_of_two_adapters_for_one_archetype_the_older_speaks() -> None:
    world = await settled()
    younger = adapter("vampire", name="younger", spec=PERSONA)
    world.put(younger)
    world.edit(
        names.KIND_ADAPTER, "younger", lambda live: live["metadata"].update(creationTimestamp="2026-12-01T00:00:00Z")
    )
    await world.settle(seconds=5)
    assert [voice.system_prompt for voice in table(world).voices] == [""]
    world.api.remove(names.KIND_ADAPTER, NAMESPACE, "vampire")
    await world.settle(seconds=5)
    assert [voice.system_prompt for voice in table(world).voices] == ["You are old."]


# --- tiers ---


async def test_a_tier_is_told_with_what_its_pods_can_do() -> None:
    world = await settled()
    set_spec(world, names.KIND_TIER, "gold", fallbackTier="silver")
    await world.settle()
    gold = part(world, "gold")
    assert (gold.prioritised, gold.slots, gold.base_model) == (True, 256, "base")
    assert gold.queue == 64 * len(gold.endpoints) > 0
    assert (gold.fallback_tier, part(world, "silver").fallback_tier) == ("silver", "")


async def test_engines_of_an_earlier_version_run_on_and_get_no_priorities() -> None:
    world = await settled()
    before = set(world.pods("gold"))
    for slice_ in ("on-demand", "spot"):

        def age(live: dict[str, Any]) -> None:
            """As the version before made it: without a policy, and with its own number on the note."""
            engine = live["spec"]["template"]["spec"]["containers"][0]
            engine["args"] = [arg for arg in engine["args"] if not arg.startswith("--scheduling-policy")]
            note = live["metadata"]["annotations"][names.ANNOTATION_TEMPLATE_VERSION]
            live["metadata"]["annotations"][names.ANNOTATION_TEMPLATE_VERSION] = note.replace(
                '"version":2', '"version":1'
            )

        world.edit("Deployment", f"gold-{slice_}", age)
    for name in before:

        def start_without(live: dict[str, Any]) -> None:
            engine = live["spec"]["containers"][0]
            engine["args"] = [arg for arg in engine["args"] if not arg.startswith("--scheduling-policy")]

        world.edit("Pod", name, start_without)
    world.lead()
    await world.settle()
    assert set(world.pods("gold")) == before, "nothing was restarted"
    assert not part(world, "gold").prioritised
    set_spec(world, names.KIND_TIER, "gold", podLabels={"team": "quests"})
    await world.settle()
    assert not before & set(world.pods("gold"))
    assert part(world, "gold").prioritised


async def test_a_policy_of_the_users_own_is_left_alone_and_known() -> None:
    world = await settled()
    engine = {"image": "vllm:test", "extraArgs": ["--scheduling_policy", "fcfs", "--max-num-seqs=12"]}
    set_spec(world, names.KIND_TIER, "gold", engine=engine)
    await world.settle()
    assert (part(world, "gold").prioritised, part(world, "gold").slots) == (False, 12)


@pytest.mark.parametrize(
    ("links", "reason"),
    [
        ({"gold": "silver", "silver": "gold"}, reasons.FALLBACK_CYCLE),
        ({"gold": "gold"}, reasons.FALLBACK_CYCLE),
        ({"gold": "platinum"}, reasons.FALLBACK_UNKNOWN),
    ],
)
async def test_a_wrong_link_is_cut_told_at_its_tier_and_mended_when_it_is(links: dict[str, str], reason: str) -> None:
    world = await settled()
    for name, target in links.items():
        set_spec(world, names.KIND_TIER, name, fallbackTier=target)
    await world.settle()
    assert part(world, "gold").fallback_tier == ""
    assert world.said(names.KIND_TIER, "gold", "Ready")[0] == "True"
    assert world.said(names.KIND_TIER, "gold", STALLED)[1] == reason
    set_spec(world, names.KIND_TIER, "silver", fallbackTier=None)
    set_spec(world, names.KIND_TIER, "gold", fallbackTier="silver")
    await world.settle()
    assert part(world, "gold").fallback_tier == "silver"
    assert world.said(names.KIND_TIER, "gold", STALLED)[0] == ""


async def test_a_fallback_that_is_applied_a_moment_later_calls_nobody() -> None:
    world = await settled()
    world.put_now(tier("bronze", spec={"fallbackTier": "iron"}))
    set_spec(
        world,
        names.KIND_REGION,
        "eu-west",
        tiers=[{"tier": name, "npcs": {"min": 50, "max": 50}} for name in ("gold", "silver", "bronze")],
    )
    await world.settle(seconds=3)
    assert world.said(names.KIND_TIER, "bronze", STALLED)[0] == ""
    await world.settle(seconds=20)
    assert world.said(names.KIND_TIER, "bronze", STALLED)[1] == reasons.FALLBACK_UNKNOWN


# --- callers ---


async def test_keys_come_with_their_policies_and_a_salt_that_stays() -> None:
    world = World()
    policies = [{"name": "quest", "archetypes": ["vampire"], "separateCache": True, "rate": {"requestsPerSecond": 3}}]
    auth = {"mode": "ApiKey", "secretRef": {"name": "keys"}, "policies": policies}
    world.put(secret("keys", {"quest": "k1", "game": "k2"}))
    world.put(region(spec={"gateway": {"auth": auth}}), tier(), adapter())
    await world.settle()
    game, quest = table(world).api_keys
    assert quest.archetypes == ("vampire",)
    assert quest.sha256 == hashlib.sha256(b"k1").hexdigest()
    assert quest.rate is not None
    assert quest.rate.burst == 6
    assert quest.cache_salt is not None
    assert game.cache_salt is None
    world.edit(
        names.KIND_REGION,
        "eu-west",
        lambda live: live["metadata"].update(annotations={names.ANNOTATION_ROTATE_TOKEN: "1"}),
    )
    world.clock.time += 3600
    await world.settle()
    assert table(world).api_keys[1].cache_salt == quest.cache_salt


async def test_rates_are_shared_out_among_the_gateways_that_are_ready() -> None:
    world = await settled(gateways=3)
    assert table(world).ready_gateways == 3
    world.controllers_run = False
    gone = next(iter(world.doors()))
    world.pod_status(gone, conditions=[{"type": "Ready", "status": "False"}])
    await world.settle(seconds=0.5)
    assert {gateway.table.ready_gateways for gateway in world.doors().values() if gateway.table} == {2}


async def test_callers_of_the_cluster_are_let_in_once_its_keys_are_known() -> None:
    accounts = {"audience": "npc", "allowed": ["game:server"]}
    auth = {"mode": "None", "serviceAccounts": accounts}
    world = await settled(spec={"gateway": {"auth": auth}})
    assert table(world).identity is None
    assert world.said(names.KIND_REGION, "eu-west", "Ready")[0] == "True"
    assert world.said(names.KIND_REGION, "eu-west", "Reconciling")[1] == reasons.ISSUER_UNKNOWN
    world.store.put(IssuerFact, "", ISSUER, IssuerFact("https://cluster", '{"keys":[{"kid":"1"}]}'))
    await world.settle(seconds=1)
    identity = table(world).identity
    assert identity is not None
    assert (identity.issuer, identity.subjects) == ("https://cluster", ("game:server",))
    assert world.said(names.KIND_REGION, "eu-west", "Reconciling")[0] == ""


# --- quarantine ---


async def test_a_region_says_what_its_quarantine_affects() -> None:
    world = await settled(adapter("zombie", digests={"gold": digest("z"), "silver": digest("zs")}))
    assert world.said(names.KIND_REGION, "eu-west", QUARANTINED)[0] == ""
    set_spec(world, names.KIND_REGION, "eu-west", quarantinedDigests=[digest("zs"), digest("nobody")])
    await world.settle()
    status, reason, message = world.said(names.KIND_REGION, "eu-west", QUARANTINED)
    assert (status, reason) == ("True", "Quarantined")
    assert message == "2 digests are used nowhere; affected: zombie on silver"
    set_spec(world, names.KIND_REGION, "eu-west", quarantinedDigests=[digest("nobody")])
    await world.settle()
    assert "no voice" in world.said(names.KIND_REGION, "eu-west", QUARANTINED)[2]
    set_spec(world, names.KIND_REGION, "eu-west", quarantinedDigests=[])
    await world.settle()
    assert world.said(names.KIND_REGION, "eu-west", QUARANTINED)[0] == ""


async def test_at_rest_nothing_is_built_or_written_again() -> None:
    world = await settled()
    stamps = {gateway.stamp.order() for gateway in world.doors().values()}
    world.api.forget_calls()
    world.resync()
    await world.settle(seconds=600)
    assert world.writes() == []
    assert {gateway.stamp.order() for gateway in world.doors().values()} == stamps
