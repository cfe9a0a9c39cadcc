"""Every command with its words, options and examples: `--help`, completion and the manual page follow it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from . import options as o


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its words, its options, what it can show."""

    name: str
    help: str
    examples: tuple[str, ...]
    options: Callable[[argparse.ArgumentParser], None]
    cluster: bool = True
    forms: bool = True


COMMANDS: tuple[Command, ...] = (
    Command(
        "status",
        "regions, tiers, rollouts, degraded voices and adapters at a glance",
        ("kubectl npc status -n eu-west", "kubectl npc status -A --watch"),
        o.status_options,
    ),
    Command(
        "why",
        "the chain of causes of a region, tier, adapter or pod, with the next command",
        ("kubectl npc why -n eu-west", "kubectl npc why tier/gold", "kubectl npc why vampire"),
        o.why_options,
    ),
    Command(
        "matrix",
        "what each engine pod holds: archetype, tier, pod, digest, since when (asks the agents)",
        ("kubectl npc matrix -n eu-west --archetype vampire", "kubectl npc matrix -o json"),
        o.narrowing_options,
    ),
    Command(
        "diff",
        "where pods hold something else than specs want (asks the agents)",
        ("kubectl npc diff -n eu-west", "kubectl npc diff --tier gold --archetype vampire"),
        o.narrowing_options,
    ),
    Command(
        "history",
        "what was decided about an adapter: digests, shares, numbers and by whom, newest last",
        ("kubectl npc history vampire -n eu-west", "kubectl npc history vampire --tier gold -o yaml"),
        o.history_options,
    ),
    Command(
        "approve",
        "let a candidate go above the ceiling: sets spec.rollout.approvedDigest",
        ("kubectl npc approve vampire -n eu-west", "kubectl npc approve vampire --digest 0a1b2c3d4e5f --dry-run"),
        o.approve_options,
    ),
    Command(
        "rollback",
        "put an earlier digest back into spec.variants[].source, with where it came from",
        (
            "kubectl npc rollback vampire -n eu-west",
            "kubectl npc rollback vampire --tier gold --to 0a1b2c3d4e5f --yes",
        ),
        o.rollback_options,
    ),
    Command(
        "quarantine",
        "a digest that nothing may use: adds to spec.quarantinedDigests of an adapter or the region",
        (
            "kubectl npc quarantine 0a1b2c3d4e5f vampire -n eu-west",
            "kubectl npc quarantine 0a1b2c3d4e5f --region",
            "kubectl npc quarantine 0a1b2c3d4e5f vampire --remove",
        ),
        o.quarantine_options,
    ),
    Command(
        "pause",
        "stop changes to an adapter, a tier or a region; what serves goes on: sets spec.suspend",
        ("kubectl npc pause vampire -n eu-west", "kubectl npc pause tier/gold"),
        o.pause_options,
    ),
    Command(
        "resume",
        "go on after a pause",
        ("kubectl npc resume vampire -n eu-west",),
        o.pause_options,
    ),
    Command(
        "say",
        "one line of a character through the region's gateway, with the tier and digest that spoke",
        ('kubectl npc say vampire "Who are you?" -n eu-west', 'kubectl npc say vampire "Hello" --tier gold -o json'),
        o.say_options,
    ),
    Command(
        "digest",
        "the digest of an adapter's folder",
        ("kubectl npc digest ./vampire-v2",),
        o.digest_options,
        cluster=False,
    ),
    Command(
        "lint",
        "manifests or an adapter's folder, without a cluster",
        (
            "kubectl npc lint manifests/",
            "kubectl npc lint ./vampire-v2 --max-rank 16 --base ./Qwen3-8B",
        ),
        o.lint_options,
        cluster=False,
    ),
    Command(
        "drill",
        "kill an engine, a pod or the leader on purpose, and tell how long it took to heal; asks first",
        ("kubectl npc drill engine --tier bronze -n eu-west", "kubectl npc drill leader --yes"),
        o.drill_options,
    ),
    Command(
        "dump",
        "objects, conditions, Events, logs, what agents and gateways say, in one archive without secrets",
        ("kubectl npc dump -n eu-west --file incident.tar.gz",),
        o.dump_options,
    ),
    Command(
        "completion",
        "a completion script for your shell",
        ("source <(kubectl-npc completion bash)", "kubectl-npc completion fish | source"),
        o.completion_options,
        cluster=False,
        forms=False,
    ),
)
