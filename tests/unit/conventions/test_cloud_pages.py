"""docs/clouds/aws.md grants exactly what is called, and its rules send exactly what is understood."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest
from botocore.session import get_session

from npc_operator.domain.interruption.sources import eventbridge
from tests.unit.conventions.pages import ROOT, read

PAGE = read("docs/clouds/aws.md")
CLIENTS = ROOT / "operator" / "npc_operator" / "clients"
LONGEST_RULE = 64
"""Characters of an EventBridge rule's name."""


def policies() -> list[dict[str, Any]]:
    """Of the operator's groups, of the queue, of the operator's reading it; in the order of the page."""
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


def granted(policy: dict[str, Any], service: str) -> set[str]:
    actions: set[str] = set()
    for statement in policy["Statement"]:
        named = statement["Action"]
        actions |= {named} if isinstance(named, str) else set(named)
    return {action for action in actions if action.startswith(f"{service}:")}


def called(module: str, service: str) -> set[str]:
    """Actions that IAM asks for, for every operation of the service that a module names."""
    model = get_session().get_service_model(service)
    words = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): name for name in model.operation_names}
    tree = ast.parse((CLIENTS / module).read_text())
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {f"{service}:{words[name].removesuffix('Batch')}" for name in named & words.keys()}


@pytest.mark.parametrize(
    ("number", "module", "service"), [(0, "ec2_groups.py", "autoscaling"), (2, "interruption_queue.py", "sqs")]
)
def test_a_policy_grants_what_is_called_and_nothing_else(number: int, module: str, service: str) -> None:
    assert called(module, service) == granted(policies()[number], service)


def test_no_policy_has_a_wildcard_among_its_actions_and_changes_are_bound_to_what_is_ours() -> None:
    for policy in policies():
        assert "*" not in json.dumps([statement["Action"] for statement in policy["Statement"]])
    for statement in policies()[0]["Statement"]:
        if statement["Sid"] in ("MakeOursOnly", "ChangeOursOnly"):
            bound = statement["Condition"]["StringEquals"]
            assert {key.partition("/")[2] for key in bound} == {"app.kubernetes.io/managed-by", "npcfleet.dev/cluster"}
    for policy in policies()[1:]:
        assert [statement["Resource"] for statement in policy["Statement"]] == [
            "arn:aws:sqs:REGION:ACCOUNT:npc-CLUSTER"
        ]


def test_the_rules_send_what_is_understood_and_nothing_else() -> None:
    setup = PAGE.partition("## A queue for interruptions")[2]
    in_loop = re.search(r'for type in ((?:"[^"]+" ?)+); do', setup)
    assert in_loop is not None
    looped = re.findall(r'"([^"]+)"', in_loop[1])
    sent = {("aws.ec2", one) for one in looped}
    sent |= set(re.findall(r'\'\{"source": \["([^"]+)"\], "detail-type": \["([^"]+)"\]\}\'', setup))
    assert sent == set(eventbridge._PARSERS)
    rules = ["npc-" + one.replace(" ", "") for one in looped] + re.findall(r"put-rule --name (npc-\S+)", setup)
    assert len(rules) == len(sent)
    assert max(map(len, rules)) <= LONGEST_RULE
