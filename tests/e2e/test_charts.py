"""What the charts promise once they are installed on real nodes."""

from __future__ import annotations

from hack.stack.install import OPERATOR_NAMESPACE, OPERATOR_RELEASE, Stack


async def test_the_operators_own_check_passes_as_a_helm_test(stack: Stack) -> None:
    said = await stack.helm.run("test", OPERATOR_RELEASE, "--namespace", OPERATOR_NAMESPACE)
    suites = [line.split()[-1] for line in said.splitlines() if line.startswith(("TEST SUITE:", "Phase:"))]
    assert suites == [f"{OPERATOR_RELEASE}-check", "Succeeded"]
