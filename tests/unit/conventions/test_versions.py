"""Versions that documents, charts and the code must agree on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from npc_operator.api.crd import crds
from npc_operator.settings import DEFAULT_ENGINE_IMAGE
from tests.unit.conventions.pages import ROOT, read

CHARTS = sorted((ROOT / "charts").glob("*/Chart.yaml"))


@pytest.mark.parametrize("chart", CHARTS, ids=lambda path: path.parent.name)
def test_the_readme_names_the_oldest_kubernetes_that_the_charts_accept(chart: Path) -> None:
    oldest = re.fullmatch(r">=(1\.\d+)\.0-0", yaml.safe_load(chart.read_text())["kubeVersion"])
    assert oldest is not None
    assert f"Kubernetes {oldest.group(1)} or later" in read("README.md")


def test_the_readme_names_the_kubernetes_that_the_tests_run_on() -> None:
    used = re.search(r"k8s\.io/kubernetes v(1\.\d+)\.", read("hack/cluster/go/go.mod"))
    assert used is not None
    assert f"proven on {used.group(1)}" in read("README.md")


def test_the_readme_names_the_engine_that_the_tests_run_with() -> None:
    release = re.fullmatch(r"vllm/vllm-openai:v(\d+\.\d+)\.\d+", DEFAULT_ENGINE_IMAGE)
    assert release is not None
    assert f"vLLM {release.group(1)}" in read("README.md")
    assert f"{release.group(1)}." in read("requirements/vllm.in")


def test_there_is_one_version_of_the_api_and_it_is_stored() -> None:
    for crd in crds().values():
        assert [(one["name"], one["served"], one["storage"]) for one in crd["spec"]["versions"]] == [
            ("v1alpha1", True, True)
        ]
