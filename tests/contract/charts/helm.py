"""The real Helm, on a control plane of our own and with a home of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.cluster import api
from tests.support.kube_env import KubeEnv

CHARTS = Path(__file__).resolve().parents[3] / "charts"
Object = dict[str, Any]


class HelmRefused(AssertionError):
    """Helm failed; the message is what it printed."""


@dataclass(frozen=True, slots=True)
class Helm:
    """Helm for one control plane."""

    env: KubeEnv
    home: Path
    program: str = "helm"
    """As `hack.cluster` calls it: `helm` is Helm 4, `helm3` its elder."""

    def run(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """Its output; raises HelmRefused when it fails."""
        given = ("--values", "-") if values is not None else ()
        done = subprocess.run(
            [str(api.binary(self.program)), "--kubeconfig", str(self.env.kubeconfig), *arguments, *given],
            input=json.dumps(values) if values is not None else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=360,
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin"},
        )
        if done.returncode:
            raise HelmRefused(done.stderr)
        return done.stdout

    def render(
        self, chart: str, values: Mapping[str, Any] | None = None, *more: str, release: str = ""
    ) -> list[Object]:
        """The objects of a chart as `helm template` has them, hooks included."""
        name = release or chart
        text = self.run("template", name, str(CHARTS / chart), "-n", "rendered", *more, values=values or {})
        return [document for document in yaml.safe_load_all(text) if document]

    def install(self, release: str, chart: str, namespace: str, values: Mapping[str, Any] | None = None) -> str:
        """`helm upgrade --install` with exactly these values (Helm would reuse the last ones where none are given); its
        notes.
        """
        chart_path = str(CHARTS / chart)
        where = ("-n", namespace, "--create-namespace", "--reset-values")
        return self.run("upgrade", "--install", release, chart_path, *where, values=values or {})


def one(objects: list[Object], kind: str, name: str = "") -> Object:
    """The only object of a kind (and name)."""
    found = [item for item in objects if item["kind"] == kind and name in ("", item["metadata"]["name"])]
    assert len(found) == 1, [f"{item['kind']}/{item['metadata']['name']}" for item in objects]
    return found[0]


def names(objects: list[Object], kind: str) -> list[str]:
    return [item["metadata"]["name"] for item in objects if item["kind"] == kind]
