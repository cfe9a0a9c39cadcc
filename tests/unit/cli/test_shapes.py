"""What programs read of `-o json`: these keys stay for as long as the API's version does; others may come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from npc_runtime.cli.answers import Answer
from npc_runtime.cli.changes.approving import plan_approval
from npc_runtime.cli.facts import World
from npc_runtime.cli.parse_voices import parse_adapter
from npc_runtime.cli.views.changes import view_plan
from npc_runtime.cli.views.history import view_history
from npc_runtime.cli.views.residency import Heard, view_diff, view_matrix
from npc_runtime.cli.views.status import view_status
from tests.unit.cli import objects as o
from tests.unit.cli.degraded_faults import less
from tests.unit.cli.faults import healthy
from tests.unit.cli.moving_faults import on_its_way, voice
from tests.unit.cli.named import FAULTS
from tests.unit.cli.test_history import written
from tests.unit.cli.test_residency import heard, held
from tests.unit.cli.test_why import answer

CANARY = voice(on_its_way("Watching", "Watching"))
CANARY["status"]["degraded"] = [less("Tier", "answered by its adapter on tier silver")]
COMMON = "namespace name ready reason message since suspended "


def world() -> World:
    return healthy(adapters=[CANARY])


def silent() -> Heard:
    return Heard(world().pods[0], None, "refused")


ANSWERS: dict[str, tuple[Answer, Mapping[str, str]]] = {
    "status": (
        view_status((world(),), now=o.NOW),
        {
            "": "operator regions tiers adapters rollouts degraded notLookedAt",
            "regions": COMMON + "tiers readyTiers gatewayReady gatewayReplicas archetypes population endpoint note",
            "tiers": COMMON + "quality readyReplicas wantedReplicas adapters residentAdapters",
            "adapters": COMMON + "archetype digest readyVariants variants",
            "rollouts": "namespace name tier candidate stable phase step steps percent sharePercent requests since "
            "verdict",
            "degraded": "namespace name archetype tier level since message",
        },
    ),
    "why": (
        answer(FAULTS["candidate-errors"]()),
        {"": "object serves causes notLookedAt", "causes": "object reason since says next fine"},
    ),
    "matrix": (
        view_matrix(world(), [heard(world(), held(o.OLD)), silent()], now=o.NOW),
        {
            "": "rows degraded notHeard",
            "rows": "archetype tier pod digest role weightPercent phase residentSince reason message",
            "degraded": "archetype tier level since message",
            "notHeard": "pod tier why",
        },
    ),
    "diff": (
        view_diff(world(), [heard(world(), held(o.OLD)), silent()]),
        {
            "": "differences podsHeard notHeard",
            "differences": "archetype tier pod wanted holds says",
            "notHeard": "pod tier why",
        },
    ),
    "history": (
        view_history(parse_adapter(written()), tier=""),
        {
            "": "namespace name archetype history",
            "history": "time tier digest uri previous fromPercent toPercent reason verdict by",
        },
    ),
    "approve": (
        view_plan(plan_approval(CANARY, parse_adapter(CANARY), digest=""), dry_run=False),
        {"": "object changed dryRun changes notes", "changes": "field from to"},
    ),
}


@pytest.mark.parametrize("command", ANSWERS)
def test_a_key_that_programs_read_is_there(command: str) -> None:
    told, wanted = ANSWERS[command]
    data: Any = told.data
    for part, keys in wanted.items():
        for entry in data[part] if part else [data]:
            assert set(keys.split()) <= set(entry), (part, set(keys.split()) - set(entry))
        assert not part or data[part], f"{part} is empty, so nothing was looked at"
