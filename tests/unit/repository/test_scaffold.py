"""The promises of the repository: locks that hold anywhere, commands that explain themselves, records in order."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from hack.ladder import Count, Rung, climb, describe, read_count

ROOT = Path(__file__).resolve().parents[3]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def pins(lock: Path) -> dict[str, set[str]]:
    """Package -> the versions a lock names; more than one only where a marker chooses between them."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", lock.read_text(), flags=re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_there_is_no_package_that_shadows_the_operator_module_of_python() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "runtime" / "__init__.py").exists()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_index_and_no_path_of_the_machine_it_was_made_on(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert "index-url" not in text
    assert "find-links" not in text
    assert not re.search(r"(^|\s)/\w", text)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_pin_of_a_lock_has_a_hash(lock: Path) -> None:
    for entry in re.split(r"\n(?=\S)", lock.read_text().strip()):
        if not entry.startswith("#"):
            assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_image_holds_only_versions_that_the_tests_run_with() -> None:
    tested = pins(ROOT / "requirements" / "dev.txt")
    for name, versions in pins(ROOT / "requirements" / "operator.txt").items():
        assert versions <= tested[name], name


def test_the_lock_holds_what_each_role_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = pins(ROOT / "requirements" / "operator.txt")
    for role in ("operator", "agent", "gateway"):
        for requirement in project["optional-dependencies"][role]:
            name = re.match(r"[A-Za-z0-9._-]+", requirement)
            assert name is not None
            assert name.group() in locked


def test_every_tool_that_is_installed_on_the_way_comes_from_a_lock() -> None:
    # The benchmarks install the router they are compared with as its users would: by its version.
    files = [path for path in sorted((ROOT / "hack").rglob("*.py")) if path.parent.name != "bench"]
    sources = [path.read_text() for path in files]
    used = {name for source in sources for name in re.findall(r'tool_venv\("([a-z]+)"', source)}
    assert used == {"go", "wheels"}
    assert used <= {lock.stem for lock in LOCKS}
    for source in sources:
        for call in re.findall(r'"pip", "install",[^\]]*', source):
            assert "--require-hashes" in call


def test_every_command_of_the_makefile_is_explained_by_make_alone() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (\S+)$", makefile, flags=re.MULTILINE))
    shown = subprocess.run(["make", "-C", str(ROOT)], check=True, capture_output=True, text=True).stdout
    assert targets == set(re.findall(r"^ {2}make (\S+) +\S", shown, flags=re.MULTILINE))
    assert {"demo", "demo-down", "test", "test-fast", "test-contract", "test-e2e", "lint", "verify"} <= targets


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "\nmake test " in (ROOT / "README.md").read_text()
    assert re.findall(r"^exec (.*?)( </dev/null)?$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE) == [
        ("make test", " </dev/null")
    ]


def test_packages_are_installed_once_another_apt_is_done(tmp_path: Path) -> None:
    programs = {
        "id": "echo 0",
        "sleep": f'echo "sleep $1" >>{tmp_path}/done',
        "apt-get": f"""echo "$*" >>{tmp_path}/done
case "$*" in *update*) ;; *) exit 0 ;; esac
[ "$(grep -c update {tmp_path}/done)" -gt 2 ] && exit 0
echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7" >&2
exit 100""",
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [ROOT / "hack" / "bootstrap.sh", "apt", "make"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "NPC_FLEET_CACHE": str(tmp_path / "cache")},
        check=True,
        capture_output=True,
        text=True,
    )
    update = "-o DPkg::Lock::Timeout=300 update -qq"
    assert (tmp_path / "done").read_text().splitlines() == [
        *(update, "sleep 10", update, "sleep 10", update),
        "-o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends make",
    ]
    assert done.stderr.count("another apt holds the lock of the package lists") == 2


@pytest.mark.parametrize(("given", "seen"), [({}, "true"), ({"CI": "false"}, "false")], ids=["unset", "set"])
def test_what_ci_runs_is_told_that_nobody_watches(tmp_path: Path, given: dict[str, str], seen: str) -> None:
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "$* with CI=$CI"\n')
    make.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", **given}
    done = subprocess.run([ROOT / ".ci" / "run"], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == f"test with CI={seen}\n"


def test_every_decision_is_dated_has_alternatives_and_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    records = sorted(folder.glob("[0-9]*.md"))
    assert [record.name[:4] for record in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    for record in records:
        text = record.read_text()
        title = text.splitlines()[0].removeprefix(f"# {record.name[:4]}: ")
        assert f"[{record.name[:4]}]({record.name}) | {title} |" in index
        assert re.search(r"^Date: \d{4}-\d\d-\d\d\. Status: (accepted|replaced by \d{4})\.$", text, flags=re.MULTILINE)
        for heading in ("## The question", "## Decision", "## Alternatives", "## What follows"):
            assert heading in text, record.name


def test_links_between_documents_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target and "NNNN" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_a_rung_counts_failures_and_errors_as_broken(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite tests="9" failures="2" errors="1" skipped="1"/>'
        '<testsuite tests="3" failures="0" errors="0" skipped="0"/></testsuites>'
    )
    assert read_count(report) == Count(passed=8, bad=3, skipped=1)


def test_a_target_that_writes_no_report_counts_no_tests(tmp_path: Path) -> None:
    assert read_count(tmp_path / "none.xml") is None


@pytest.mark.parametrize(
    ("rung", "line"),
    [
        (Rung(target="lint", ok=True, seconds=61.9, count=None), "  lint           ok        1m01s"),
        (
            Rung(target="test-fast", ok=False, seconds=5.0, count=Count(passed=7, bad=1)),
            "  test-fast      FAILED    0m05s   7 passed, 1 failed",
        ),
        (
            Rung(target="test-e2e", ok=False, seconds=None, count=None),
            "  test-e2e       not run   (an earlier rung broke)",
        ),
    ],
    ids=["a linter", "a broken suite", "a rung never reached"],
)
def test_the_summary_says_what_each_rung_cost(rung: Rung, line: str) -> None:
    assert describe(rung) == line


def reached(targets: list[str], *, broken: set[str], unattended: bool) -> list[str]:
    """The targets that `climb` really ran, where those in `broken` fail."""
    ran: list[str] = []

    def run(target: str) -> Rung:
        ran.append(target)
        return Rung(target=target, ok=target not in broken, seconds=1.0, count=None)

    rungs = climb(targets, run, unattended=unattended)
    assert all(rung.ok for rung in rungs) is not bool(broken)
    return ran


@pytest.mark.parametrize(
    ("broken", "unattended", "ran"),
    [
        (set(), False, ["lint", "verify", "test-contract", "test-e2e"]),
        (set(), True, ["lint", "verify", "test-contract", "test-e2e", "cluster-down"]),
        ({"lint"}, False, ["lint", "verify"]),
        ({"lint"}, True, ["lint", "verify", "test-contract", "test-e2e", "cluster-down"]),
        ({"test-contract"}, False, ["lint", "verify", "test-contract"]),
        ({"cluster-down"}, True, ["lint", "verify", "test-contract", "test-e2e", "cluster-down"]),
    ],
    ids=[
        "all hold",
        "all hold in CI",
        "cheap rungs all run, dear ones do not",
        "in CI all run, and what was started is stopped",
        "a person keeps the cluster",
        "a cluster that does not stop is a failure",
    ],
)
def test_the_ladder_climbs_as_far_as_it_makes_sense(broken: set[str], unattended: bool, ran: list[str]) -> None:
    assert reached(["lint", "verify", "test-contract", "test-e2e"], broken=broken, unattended=unattended) == ran
