"""Players who speak to candidates: what gateways in memory count of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from npc_runtime.wire import AnswerCounts, RolloutReport
from tests.component.operator.harness import World

Pair = tuple[str, str, str, str, int]


@dataclass
class Players:
    """Answers by (gateway process, archetype, tier, digest of the candidate, attempt), as each gateway counts them."""

    world: World
    bad: set[str] = field(default_factory=set)
    """Digests that answer rubbish."""
    lowest: int | None = None
    counted: dict[Pair, tuple[int, int, int]] = field(default_factory=dict)
    first_bad: dict[Pair, int] = field(default_factory=dict)
    """Unix milliseconds of the first bad answer."""
    heard: dict[str, int] = field(default_factory=dict)
    """Answers of each digest, as candidate."""

    def speak(self, requests: int) -> None:
        """So many answers of each candidate at each gateway, and ten times as many of the stable digests."""
        for name, gateway in self.world.doors().items():
            reports = []
            for alias in gateway.table.aliases if gateway.table is not None else ():
                if alias.rollout is None or len(alias.targets) < 2:
                    continue
                candidate = alias.targets[1].digest
                key = (f"{name} {gateway.boot_id}", alias.archetype, alias.tier, candidate, alias.rollout.attempt)
                asked, wrong, stable = self.counted.get(key, (0, 0, 0))
                asked, stable = asked + requests, stable + 10 * requests
                wrong += requests if candidate in self.bad else 0
                self.counted[key] = (asked, wrong, stable)
                if wrong:
                    self.first_bad.setdefault(key, int(1000 * self.world.clock.now()))
                self.heard[candidate] = self.heard.get(candidate, 0) + requests
                reports.append(
                    RolloutReport(
                        archetype=alias.archetype,
                        tier=alias.tier,
                        stable=alias.targets[0].digest,
                        candidate=candidate,
                        attempt=alias.rollout.attempt,
                        candidate_counts=AnswerCounts(
                            requests=asked, mismatched=wrong, first_bad_ms=self.first_bad.get(key)
                        ),
                        stable_counts=AnswerCounts(requests=stable),
                        lowest_heard=self.lowest,
                    )
                )
            gateway.rollouts = tuple(reports)

    async def play(self, seconds: float, *, each_second: int = 10) -> None:
        """Time passes, and they speak."""
        for _ in range(int(seconds)):
            self.speak(each_second)
            await self.world.settle(seconds=1)
