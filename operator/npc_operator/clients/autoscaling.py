"""ports.NodeGroups by AWS, without a thought for whoever has no AutoScaling groups.

boto3 is imported with the first call (it takes half a second and 8 MB, which an operator on other clouds need not
spend), and every call runs in a thread, because boto3 blocks: for up to two minutes where AWS cannot be reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, TypeVar

from npc_operator.clients.threads import in_thread
from npc_operator.domain.nodepools.groups import GroupDescription, LiveGroup

if TYPE_CHECKING:
    from npc_operator.clients.ec2_groups import Groups

AT_ONCE = 8
"""Calls that run at the same time; AWS throttles an account's calls together anyway."""

T = TypeVar("T")


class AutoScalingClient:
    """`endpoint` is for a server that stands in for AWS. Raises what ports.NodeGroups says."""

    def __init__(self, *, endpoint: str = "") -> None:
        self._endpoint = endpoint
        self._groups: Groups | None = None
        self._loading = asyncio.Lock()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def find(self, region: str, *, named: Collection[str], tagged: Mapping[str, str]) -> tuple[LiveGroup, ...]:
        return await self._do(lambda groups: groups.find(region, named=named, tagged=tagged))

    async def create(self, region: str, desired: GroupDescription) -> None:
        await self._do(lambda groups: groups.create(region, desired))

    async def update(self, region: str, name: str, desired: GroupDescription) -> None:
        await self._do(lambda groups: groups.update(region, name, desired))

    async def shrink(self, region: str, name: str) -> None:
        await self._do(lambda groups: groups.shrink(region, name))

    async def delete(self, region: str, name: str) -> None:
        await self._do(lambda groups: groups.delete(region, name))

    async def last_failure(self, region: str, name: str) -> str:
        return await self._do(lambda groups: groups.last_failure(region, name))

    async def _do(self, act: Callable[[Groups], T]) -> T:
        async with self._loading:
            if self._groups is None:
                self._groups = await in_thread(lambda: _load(self._endpoint), name="autoscaling")
            groups = self._groups
        async with self._turns:
            return await in_thread(lambda: act(groups), name="autoscaling")


def _load(endpoint: str) -> Groups:
    from npc_operator.clients.ec2_groups import Groups

    return Groups(endpoint)
