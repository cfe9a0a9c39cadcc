"""How often a candidate that is as good as stable is taken back, and how soon one that is not. Simulated: see
`analysis_world` for the games, docs/decisions for the tests.

A run is a batch of rollouts; the same seeds give the same figures on every machine.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter

from hack.bench.analysis_world import Game, Played, play
from hack.bench.figures import Bar, Figure
from hack.bench.plan import Options

ROW = "analysis"
GOOD_ROLLOUTS = 700
BAD_ROLLOUTS = 400
"""In one run: the bars ask for a share below 1%, and above 99% and 95%."""

MANY = Game(npcs=200, lines_per_second=10.0)
SOME = Game(npcs=24, lines_per_second=2.0)
FEW = Game(npcs=8, lines_per_second=1.0)
GOOD = {
    "200 NPCs, 10 lines/s": MANY,
    "200 NPCs, 10 lines/s, 3% bad": Game(npcs=200, lines_per_second=10.0, bad=0.03),
    "24 NPCs, 2 lines/s": SOME,
    "24 NPCs, 5 lines/s, steps of 5 minutes": Game(npcs=24, lines_per_second=5.0, step_seconds=300),
    "8 NPCs, 1 line/s": FEW,
}
ERRORS = {
    "200 NPCs": (Game(npcs=200, lines_per_second=10.0, candidate_bad=0.2), Bar(99.0, least=True)),
    "24 NPCs": (Game(npcs=24, lines_per_second=2.0, candidate_bad=0.2), None),
    "8 NPCs": (Game(npcs=8, lines_per_second=1.0, candidate_bad=0.2), None),
}
SLOW = {
    "200 NPCs": (Game(npcs=200, lines_per_second=10.0, times_slower=2.0), Bar(95.0, least=True)),
    "24 NPCs": (Game(npcs=24, lines_per_second=2.0, times_slower=2.0), None),
    "24 NPCs, three times": (Game(npcs=24, lines_per_second=2.0, times_slower=3.0), None),
}


async def measure_analysis(options: Options) -> list[Figure]:
    """False alarms, then power. One core, nothing but arithmetic."""
    figures = []
    for name, game in GOOD.items():
        batches = [await _play(game, run, GOOD_ROLLOUTS, None) for run in range(options.runs)]
        figures.append(_figure(f"taken back though as good: {name}", batches, Bar(1.0)))
        options.say(f"{ROW}: {figures[-1].what}: {figures[-1].runs}, {figures[-1].note}")
    for what, games, within in (("20% bad against 1%", ERRORS, 100), ("first tokens doubled", SLOW, 200)):
        for name, (game, bar) in games.items():
            batches = [await _play(game, run, BAD_ROLLOUTS, within) for run in range(options.runs)]
            figures.append(_figure(f"{what}, caught within {within} answers: {name}", batches, bar))
            options.say(f"{ROW}: {figures[-1].what}: {figures[-1].runs}, {figures[-1].note}")
    return figures


async def _play(game: Game, run: int, rollouts: int, within: int | None) -> list[Played]:
    """Off the event loop, so that a stop is heard."""
    stopped = False

    def batch() -> list[Played]:
        played = []
        for seed in range(run * rollouts, (run + 1) * rollouts):
            if stopped:
                break
            played.append(play(game, seed, within=within))
        return played

    try:
        return await asyncio.to_thread(batch)
    finally:
        stopped = True


def _figure(what: str, batches: list[list[Played]], bar: Bar | None) -> Figure:
    shares = tuple(100.0 * sum(bool(one.reason) for one in batch) / len(batch) for batch in batches)
    every = [one for batch in batches for one in batch]
    reasons = Counter(one.reason for one in every if one.reason)
    caught = [one.requests for one in every if one.reason]
    note = f"{len(every)} rollouts, {statistics.mean(one.looks for one in every):.0f} looks each"
    if reasons:
        note += ", " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        note += f", after {statistics.median(caught):.0f} answers (median)"
    return Figure(row=ROW, what=what, unit="%", runs=shares, bar=bar, note=note)
