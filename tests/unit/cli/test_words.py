"""What the tool knows of the operator by heart is what the operator says: both are imported here, and only here."""

from __future__ import annotations

import re
import tomllib

import pytest

from npc_operator.api import names
from npc_operator.domain.interruption.queues import QUEUE_READY
from npc_operator.domain.interruption.visibility import NODES_VISIBLE
from npc_operator.domain.nodepools.report import NODE_POOLS_READY
from npc_operator.domain.rollout import history
from npc_operator.settings import read_settings
from npc_runtime.cli import vocabulary as v
from npc_runtime.cli.explain.advice import AGENTS, OBJECTS, next_step
from npc_runtime.cli.explain.machines import MACHINES
from tests.unit.conventions.pages import ROOT, read
from tests.unit.conventions.vocabulary import agent_reasons, condition_reasons


def test_names_are_those_that_the_operator_writes() -> None:
    shared = {name for name in vars(v) if name.isupper() and hasattr(names, name)}
    assert {"GROUP", "LABEL_TIER", "LABEL_REGION", "SECRET_INTERNAL", "PLURALS", "COMPONENT_ENGINE"} <= shared
    for name in shared:
        assert getattr(v, name) == getattr(names, name), name


def test_what_made_a_digest_stable_is_what_the_operator_calls_so() -> None:
    assert v.BECAME_STABLE == history.BECAME_STABLE


def test_the_lease_is_looked_for_under_the_name_that_the_operator_gives_it() -> None:
    settings = read_settings(["run", "--fleet-image=x"], {})
    assert settings.lease_name == v.LEASE
    assert f"--namespace {v.OPERATOR_NAMESPACE}" in read("README.md")


def test_conditions_about_machines_are_those_that_the_operator_writes_beside_readiness() -> None:
    assert set(MACHINES) == {NODE_POOLS_READY, QUEUE_READY, NODES_VISIBLE}


def test_short_names_are_those_of_the_crds() -> None:
    for kind, short in v.SHORT.items():
        assert f"shortNames:\n      - {short}\n" in read(f"crds/{v.PLURALS[kind]}.yaml")


def test_every_reason_of_the_operator_has_a_next_step_and_no_other_has() -> None:
    assert set(OBJECTS) == condition_reasons()


def test_every_reason_of_an_agent_has_a_next_step_and_no_other_has() -> None:
    assert set(AGENTS) == agent_reasons()


@pytest.mark.parametrize("reason", sorted({**OBJECTS, **AGENTS}))
def test_a_next_step_is_filled_in_completely(reason: str) -> None:
    step = next_step(
        reason, namespace="eu", short="npca", name="vampire", tier="gold", pod="gold-1", container="engine"
    )
    assert not re.search(r"[{}]|POD|TIER\b|CONTAINER", step)


def test_a_reason_of_a_newer_operator_still_says_where_to_look() -> None:
    assert next_step("BrandNew", namespace="eu", short="npca", name="vampire") == "kubectl describe npca vampire -n eu"


def test_the_schemas_that_lint_uses_are_those_of_the_release() -> None:
    shipped = ROOT / "runtime" / "npc_runtime" / "cli" / "crds"
    assert {path.name for path in shipped.iterdir()} == {path.name for path in (ROOT / "crds").glob("*.yaml")}
    for path in shipped.iterdir():
        assert path.read_bytes() == (ROOT / "crds" / path.name).read_bytes()


def test_the_image_holds_what_the_tool_needs() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert project["scripts"]["kubectl-npc"] == "npc_runtime.cli.__main__:main"
    locked = set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", read("requirements/operator.txt"), flags=re.MULTILINE))
    for requirement in project["optional-dependencies"]["cli"]:
        assert re.split(r"[<>=\[]", requirement)[0] in locked
    assert re.search(r"--extra cli --constraint", read("hack/bootstrap.sh"))
