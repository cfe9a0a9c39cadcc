"""Helm as an async library: the charts are installed by the real thing, as users do it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.stack import commands
from hack.stack.commands import ROOT

CHARTS = ROOT / "charts"
# Above the five minutes after which Helm gives up by itself, and says what it waited for.
SECONDS = 400.0


class HelmError(Exception):
    """Helm said no; the message is what it printed."""


@dataclass(frozen=True, slots=True)
class Helm:
    """Helm at `binary` for the cluster of `kubeconfig`."""

    binary: Path
    kubeconfig: Path

    async def run(self, *arguments: str, stdin: str | None = None, timeout: float = SECONDS) -> str:
        """Standard output. Raises HelmError when Helm fails, TimeoutError when it hangs."""
        try:
            return await commands.run(
                [self.binary, "--kubeconfig", self.kubeconfig, *arguments], stdin=stdin, timeout=timeout
            )
        except commands.CommandError as error:
            raise HelmError(f"helm {' '.join(arguments)}: {error}") from error

    async def upgrade(
        self,
        release: str,
        chart: str,
        namespace: str,
        values: Mapping[str, Any],
        *arguments: str,
        timeout: float = SECONDS,
    ) -> str:
        """`helm upgrade --install` of one of our charts, with `values` over the chart's own.

        Fields that somebody changed by hand since (as the demo does with kubectl) are taken back: the values are the
        whole truth, as with any deployment pipeline. What a Helm that was killed left half done is undone first.
        """
        await self._undo_pending(release, namespace)
        return await self.run(
            "upgrade",
            "--install",
            release,
            str(CHARTS / chart),
            "--namespace",
            namespace,
            "--create-namespace",
            "--force-conflicts",
            "--values",
            "-",
            *arguments,
            stdin=json.dumps(values),
            timeout=timeout,
        )

    async def _undo_pending(self, release: str, namespace: str) -> None:
        """Helm refuses a release that is `pending-...`, for ever, if the Helm that was at it is gone."""
        try:
            said = json.loads(await self.run("status", release, "--namespace", namespace, "--output", "json"))
        except HelmError as error:
            if "not found" in str(error):
                return
            raise
        state = str(said.get("info", {}).get("status", ""))
        if state == "pending-install":
            await self.uninstall(release, namespace)
        elif state.startswith("pending-"):
            await self.run("rollback", release, "--namespace", namespace, "--force-conflicts")

    async def uninstall(self, release: str, namespace: str, *arguments: str, timeout: float = SECONDS) -> None:
        """Remove a release; not there already is success."""
        await self.run(
            "uninstall", release, "--namespace", namespace, "--ignore-not-found", *arguments, timeout=timeout
        )

    async def releases(self, chart: str) -> dict[str, str]:
        """Release name -> namespace of every release of one of our charts."""
        listed = json.loads(await self.run("list", "--all-namespaces", "--output", "json"))
        return {entry["name"]: entry["namespace"] for entry in listed if entry["chart"].rpartition("-")[0] == chart}
