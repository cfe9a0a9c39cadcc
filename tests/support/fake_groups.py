"""AutoScaling groups in memory, in the words of ports.NodeGroups. Instances come and go as the test says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from npc_operator.domain.nodepools.groups import GroupDescription, LiveGroup
from npc_operator.ports import Conflict, NotFound, PortError


@dataclass
class FakeGroups:
    """Every group of an account, by (region, name)."""

    live: dict[tuple[str, str], LiveGroup] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    """What was asked to be changed."""
    failure: PortError | None = None
    """What every call fails with."""
    silent_regions: set[str] = field(default_factory=set)
    """Where nothing answers."""
    troubles: dict[str, str] = field(default_factory=dict)
    """Why a group's newest activity failed."""
    before: Callable[[str], None] = lambda _what: None
    after: Callable[[str], None] = lambda _what: None

    async def find(self, region: str, *, named: Collection[str], tagged: Mapping[str, str]) -> tuple[LiveGroup, ...]:
        self._fail()
        if region in self.silent_regions:
            raise PortError(f"{region}: no such host", reason="Unreachable")
        return tuple(
            group
            for (where, name), group in sorted(self.live.items())
            if where == region and (name in named or tagged.items() <= group.description.tags.items())
        )

    async def create(self, region: str, desired: GroupDescription) -> None:
        def act() -> None:
            if (region, desired.name) in self.live:
                raise Conflict(f"{desired.name} exists", reason="AlreadyExists")
            self.live[region, desired.name] = LiveGroup(desired, instances=desired.min_size)

        self._change(f"create {desired.name}", act)

    async def update(self, region: str, name: str, desired: GroupDescription) -> None:
        group = self._get(region, name)
        tags = {**group.description.tags, **desired.tags}
        changed = replace(group, description=replace(desired, name=name, tags=tags))
        self._change(f"update {name}", lambda: self.live.update({(region, name): changed}))

    async def shrink(self, region: str, name: str) -> None:
        group = self._get(region, name)
        changed = replace(group, description=replace(group.description, min_size=0, max_size=0))
        self._change(f"shrink {name}", lambda: self.live.update({(region, name): changed}))

    async def delete(self, region: str, name: str) -> None:
        def act() -> None:
            group = self.live.get((region, name))
            if group is not None and group.instances:
                raise Conflict(f"{name} has instances", reason="Busy")
            self.live.pop((region, name), None)

        self._change(f"delete {name}", act)

    async def last_failure(self, region: str, name: str) -> str:
        self._fail()
        return self.troubles.get(name, "")

    def set_instances(self, region: str, name: str, count: int) -> None:
        """The cluster autoscaler, or AWS, did something."""
        self.live[region, name] = replace(self.live[region, name], instances=count)

    def _get(self, region: str, name: str) -> LiveGroup:
        self._fail()
        if (region, name) not in self.live:
            raise NotFound(f"{name} not found", reason="NotFound", retryable=False)
        return self.live[region, name]

    def _change(self, what: str, act: Callable[[], None]) -> None:
        self.before(what)
        self.calls.append(what)
        self._fail()
        act()
        self.after(what)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
