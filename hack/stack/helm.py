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


class HelmError(Exception):
    """Helm said no; the message is what it printed."""


@dataclass(frozen=True, slots=True)
class Helm:
    """Helm at `binary` for the cluster of `kubeconfig`."""

    binary: Path
    kubeconfig: Path

    async def run(self, *arguments: str, stdin: str | None = None, timeout: float = 120.0) -> str:
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
        timeout: float = 180.0,
    ) -> str:
        """`helm upgrade --install` of one of our charts, with `values` over the chart's own.

        Fields that somebody changed by hand since (as the demo does with kubectl) are taken back: the values are the
        whole truth, as with any deployment pipeline.
        """
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

    async def uninstall(self, release: str, namespace: str, *arguments: str, timeout: float = 180.0) -> None:
        """Remove a release; not there already is success."""
        await self.run(
            "uninstall", release, "--namespace", namespace, "--ignore-not-found", *arguments, timeout=timeout
        )

    async def releases(self, chart: str) -> dict[str, str]:
        """Release name -> namespace of every release of one of our charts."""
        listed = json.loads(await self.run("list", "--all-namespaces", "--output", "json"))
        return {entry["name"]: entry["namespace"] for entry in listed if entry["chart"].rpartition("-")[0] == chart}
