"""Climbs the ladder of checks, cheap rungs first, and says what each one cost.

`make test` is the one command that CI and people share, so it must answer three questions at its end: did it hold, how
many tests really ran (a suite that collected nothing has proven nothing), and where the time went. The cheap rungs all
run even when one breaks, for one complete answer per round. The rungs that need a cluster only start for a person when
they hold; unattended, a round costs more than its minutes, so everything runs.

    python -m hack.ladder lint verify test-fast test-contract test-e2e
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDS_CLUSTER = frozenset({"test-contract", "test-e2e"})
STOP_CLUSTER = "cluster-down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Tests of one rung; `bad` are failures and errors, `skipped` must stay 0: a missing part fails."""

    passed: int = 0
    bad: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One make target that ran, or did not (`seconds` is None)."""

    target: str
    ok: bool
    seconds: float | None
    count: Count | None


def read_count(report: Path) -> Count | None:
    """The numbers in a JUnit report; None where the target wrote none, as linters do."""
    if not report.is_file():
        return None
    passed = bad = skipped = 0
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        broken = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        bad += broken
        skipped += int(suite.get("skipped", 0))
        passed += int(suite.get("tests", 0)) - broken - int(suite.get("skipped", 0))
    return Count(passed=passed, bad=bad, skipped=skipped)


def run_rung(target: str, reports: Path) -> Rung:
    """Runs one make target with its output streamed through; a test target that ran no test has failed."""
    report = reports / f"{target}.xml"
    arguments = f"{os.environ.get('PYTEST_ARGS', '')} --junitxml={report}".strip()
    print(f"\n==> make {target}", flush=True)
    started = time.monotonic()
    code = subprocess.run(["make", target, f"PYTEST_ARGS={arguments}"], cwd=ROOT, check=False).returncode
    seconds = time.monotonic() - started
    count = read_count(report)
    proven = not target.startswith("test-") or (count is not None and count.passed > 0 and count.skipped == 0)
    return Rung(target=target, ok=code == 0 and proven, seconds=seconds, count=count)


def climb(targets: Sequence[str], run: Callable[[str], Rung], *, unattended: bool) -> list[Rung]:
    """Runs the rungs in order; `unattended`, all of them, and what they started is stopped however they ended."""
    rungs: list[Rung] = []
    for target in targets:
        if target in NEEDS_CLUSTER and not unattended and not all(rung.ok for rung in rungs):
            rungs.append(Rung(target=target, ok=False, seconds=None, count=None))
            continue
        rungs.append(run(target))
    if unattended and any(rung.target in NEEDS_CLUSTER for rung in rungs):
        rungs.append(run(STOP_CLUSTER))
    return rungs


def describe(rung: Rung) -> str:
    if rung.seconds is None:
        return f"  {rung.target:<14} not run   (an earlier rung broke)"
    took = f"{int(rung.seconds) // 60}m{int(rung.seconds) % 60:02d}s"
    tests = ""
    if rung.count is not None:
        tests = f"{rung.count.passed} passed, {rung.count.bad} failed"
        if rung.count.skipped:
            tests += f", {rung.count.skipped} skipped (a missing part must fail)"
    return f"  {rung.target:<14} {'ok' if rung.ok else 'FAILED':<7} {took:>7}   {tests}".rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.ladder", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="+", help="make targets, in order")
    targets: list[str] = parser.parse_args().targets
    with tempfile.TemporaryDirectory(prefix="npc-fleet-ladder-") as folder:
        # A person's next run is faster with the cluster up; a CI machine gets back what it lent.
        unattended = os.environ.get("CI", "").lower() in {"1", "true"}
        rungs = climb(targets, lambda target: run_rung(target, Path(folder)), unattended=unattended)
    print("\n==> time spent")
    for rung in rungs:
        print(describe(rung))
    counts = [rung.count for rung in rungs if rung.count is not None]
    print(f"{sum(c.passed for c in counts)} passed, {sum(c.bad for c in counts)} failed", flush=True)
    return 0 if all(rung.ok for rung in rungs) else 1


if __name__ == "__main__":
    sys.exit(main())
