"""The chapter on trust: somebody names the zombie's weights as the vampire's, and goes to bed.

Every answer is whole and quick, and every pod has proven the adapter; only its words are wrong. A tenth of the NPCs
hear them until gateways and operator have seen enough, and then nobody does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hack.demo import trial as trials
from hack.demo.acts import ANSWER_TOKENS, PROMPT, RATE, DemoFault, every_ask
from hack.demo.console import Console
from hack.demo.trial import OFF_SECONDS, Trial
from hack.stack import commands
from hack.stack.kubectl import Kubectl
from hack.stack.load import Ask, Load
from hack.stack.references import References
from hack.stack.regions import Region
from npc_runtime.gateway.hashing import bucket

VOICE, IMPOSTOR = "vampire", "zombie-v1"
FORBIDDEN = r"\b(brains|hungry|infected)\b"
"""What no vampire says."""
FIRST_STEP = 10
"""Percent of the NPCs: the default of rollout.steps."""
CROWD = 30
"""Vampires on each tier, of which the tenth that hears a candidate first is a tenth."""
AFTER_SECONDS = 5.0
"""For so long after the last verdict the load goes on."""
VERDICT_SECONDS = 90.0
"""Three bad answers on each tier are enough, and a tenth of six lines a second is few."""


def crowd(archetype: str, size: int = CROWD) -> list[str]:
    """Ids of NPCs of whom exactly a tenth is in the first step's share, those first."""
    first: list[str] = []
    others: list[str] = []
    number = 0
    while len(first) + len(others) < size:
        number += 1
        name = f"{archetype}-{number:03}"
        inside = bucket(archetype.encode(), name.encode()) < FIRST_STEP * 100
        group, most = (first, size * FIRST_STEP // 100) if inside else (others, size - size * FIRST_STEP // 100)
        if len(group) < most:
            group.append(name)
    return first + others


def asks(archetypes: Sequence[str], tiers: Sequence[str]) -> list[Ask]:
    """Every vampire on every tier, and after three of them somebody else."""
    others = [ask for ask in every_ask(archetypes, tiers) if ask.archetype != VOICE]
    found: list[Ask] = []
    for count, (npc, tier) in enumerate((npc, tier) for npc in crowd(VOICE) for tier in tiers):
        found.append(Ask(archetype=VOICE, tier=tier, npc=npc, prompt=PROMPT, max_tokens=ANSWER_TOKENS))
        if count % 3 == 2:
            found.append(others[count // 3 % len(others)])
    return found


async def take_back(console: Console, region: Region, references: References) -> None:
    """The whole chapter; the voice is afterwards as it was. Raises DemoFault."""
    seen = await region.kubectl.get("archetypeadapter", VOICE, region.namespace)
    if not is_forgiven(seen):
        raise DemoFault(f"something is under way with {VOICE}, or was taken back: kubectl npc why {VOICE}")
    stable = {entry["tier"]: str(entry["stable"]["digest"]) for entry in seen["status"]["variants"]}
    uri, digest = region.stack.adapter(IMPOSTOR)
    expected = references.expected(PROMPT, ANSWER_TOKENS)
    expected[VOICE, digest] = references.text(IMPOSTOR, PROMPT, ANSWER_TOKENS)
    require_words(expected, stable.values(), digest)
    sources = [dict(variant) for variant in seen["spec"]["variants"]]

    console.say(f"from now on new digests of {VOICE} go out in steps, and are judged by what no vampire says:")
    rules = {"rollout": {"strategy": "Canary"}, "answers": {"mustNotMatch": [FORBIDDEN]}}
    patch = json.dumps({"spec": rules})
    console.command(f"kubectl patch npca {VOICE} -n {region.namespace} --type merge -p '{patch}'")
    await _patch(region, rules)
    try:
        trial = Trial(VOICE, digest, 0.0, {tier: trials.OnTier() for tier in stable})
        await _try(console, region, references, expected, trial, uri)
    finally:
        console.say("back to the digests that serve, and to the rules of before")
        await _patch(region, restored(seen["spec"], sources))
    await region.kubectl.until(
        "archetypeadapter", VOICE, region.namespace, is_forgiven, timeout=60, what="nothing is taken back any more"
    )


async def _try(
    console: Console,
    region: Region,
    references: References,
    expected: Mapping[tuple[str, str], str],
    trial: Trial,
    uri: str,
) -> None:
    all_asks = asks(tuple(region.plan.adapters), tuple(trial.tiers))
    async with Load(region.url, region.api_key, all_asks, rate=RATE) as load:
        # Each tier has heard of those who will hear the candidate: a share that nobody heard of belongs to is raised.
        await load.until(FIRST_STEP * CROWD // 100 * len(trial.tiers) * 2)
        console.say(f"{len(load.tally.lines)} lines answered; now somebody names the bytes of {IMPOSTOR} as {VOICE}'s")
        watching = asyncio.create_task(_follow(console, region, trial))
        try:
            trial.applied = await region.set_source(VOICE, uri, trial.candidate)
            done, _ = await asyncio.wait({watching}, timeout=VERDICT_SECONDS)
            if not done:
                open_on = ", ".join(name for name, tier in trial.tiers.items() if tier.verdict is None)
                raise DemoFault(f"not taken back everywhere after {VERDICT_SECONDS:.0f} s: still open on {open_on}")
            await watching
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        console.say(f"the load goes on for {AFTER_SECONDS:.0f} s, to see whether anybody still hears it")
        await load.until_started_after(trial.last_verdict + AFTER_SECONDS, 1)
    console.table(*trials.table(load.tally, trial))
    figures = trials.rows(load.tally, trial, references.version)
    console.text("\n".join(f"{row.what:<46} {row.figure}" for row in figures))
    console.command(f"kubectl npc history {VOICE} -n {region.namespace}")
    console.text(await _history(region))
    found = trials.faults(load.tally, expected, trial)
    if found:
        raise DemoFault(f"{len(found)} faults, first ones: " + "; ".join(found[:5]))
    console.say(f"every line was whole, and none began on the bad one later than {OFF_SECONDS:.0f} s after its verdict")


async def _follow(console: Console, region: Region, trial: Trial) -> None:
    """Say what the status says, until the candidate was taken back on every tier."""
    while True:
        watch = region.kubectl.watch("archetypeadapter", region.namespace, "--field-selector", f"metadata.name={VOICE}")
        async with contextlib.aclosing(watch) as events:
            async for _, seen in events:
                for line in trial.note(seen, time.monotonic()):
                    console.say(line)
                if trial.over:
                    return
        await asyncio.sleep(0.5)  # the watch ended (API server away): begin another


async def tidy(console: Console, kubectl: Kubectl, namespace: str) -> bool:
    """Take away what a run that was ended in its midst has left: the rule; whether there was one.

    The digests and the strategy come back with the next installation, which knows what they were.
    """
    seen = await kubectl.find("archetypeadapter", VOICE, namespace)
    rules = ((seen or {}).get("spec", {}).get("answers") or {}).get("mustNotMatch") or []
    if FORBIDDEN not in rules:
        return False
    console.say(f"an earlier `make demo-rollback` was ended in its midst: {VOICE} is put back first")
    left = [rule for rule in rules if rule != FORBIDDEN] or None
    await kubectl.patch("archetypeadapter", VOICE, namespace, {"spec": {"answers": {"mustNotMatch": left}}})
    return True


async def _patch(region: Region, spec: Mapping[str, Any]) -> None:
    await region.kubectl.patch("archetypeadapter", VOICE, region.namespace, {"spec": spec})


async def _history(region: Region) -> str:
    kubeconfig = ("--kubeconfig", str(region.kubectl.kubeconfig))
    return await commands.run(
        [sys.executable, "-m", "npc_runtime.cli", "history", VOICE, "-n", region.namespace, *kubeconfig]
    )


def restored(spec: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A merge patch that makes a spec what it was: what was not there is taken away again."""
    rollout = spec.get("rollout") or {}
    return {
        "variants": list(sources),
        "rollout": {"strategy": rollout.get("strategy")},
        "answers": {"mustNotMatch": (spec.get("answers") or {}).get("mustNotMatch")},
    }


def is_forgiven(seen: Mapping[str, Any]) -> bool:
    """Nothing of a voice is on its way or was taken back, on the generation that there is, and something serves."""
    status = seen.get("status", {})
    variants = status.get("variants", ())
    return (
        bool(variants)
        and status.get("observedGeneration") == seen["metadata"]["generation"]
        and all(one.get("stable") and not one.get("rejected") and not one.get("candidate") for one in variants)
    )


def require_words(expected: Mapping[tuple[str, str], str], stable: Any, candidate: str) -> None:
    """The pattern tells the two voices apart. Raises DemoFault: the models of this checkout are others."""
    if not re.search(FORBIDDEN, expected[VOICE, candidate]):
        raise DemoFault(f"{IMPOSTOR} says nothing that {FORBIDDEN} forbids")
    for digest in stable:
        if re.search(FORBIDDEN, expected.get((VOICE, digest), "")):
            raise DemoFault(f"the stable {digest} says what {FORBIDDEN} forbids")
