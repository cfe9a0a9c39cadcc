"""Looks for bytes that break a check: `python -m tests.fuzz [requests|answers ...] [--seconds 60]`, or `make fuzz`.

Coverage-guided (atheris), beginning with the corpus beside this file. What breaks a check is written as
`crash-...` into the folder --found and named; put it into the corpus, where the fast tests replay it, and mend it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
WORDS = Path(__file__).with_name("http.dict")
NAMES = ("requests", "answers")


def fuzz(name: str, seconds: int, found: Path) -> None:
    """Fuzz one check in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["npc_runtime.gateway"]):
        from tests.fuzz.checks import CHECKS
        from tests.fuzz.world import World

    world, check = World(), CHECKS[name]
    with tempfile.TemporaryDirectory(prefix="npc-fuzz-") as grown:
        options = (f"-max_total_time={seconds}", "-max_len=6000", "-timeout=10", f"-artifact_prefix={found}/")
        atheris.Setup(
            [sys.argv[0], grown, str(CORPUS / name), f"-dict={WORDS}", *options, "-rss_limit_mb=1024"],
            lambda data: check(world, data),
        )
        atheris.Fuzz()


def main() -> int:
    """Exit code 0 if nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="requests|answers", choices=[[], *NAMES])
    parser.add_argument("--seconds", type=int, default=60, help="for each (default: %(default)s)")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="default: %(default)s")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.found.mkdir(parents=True, exist_ok=True)
    names = arguments.names or NAMES
    if arguments.here:
        fuzz(names[0], arguments.seconds, arguments.found)
        return 0
    broken = []
    for name in names:
        print(f"fuzzing {name} for {arguments.seconds} s", flush=True)
        again = (name, "--seconds", str(arguments.seconds), "--found", str(arguments.found), "--here")
        if subprocess.run([sys.executable, "-m", "tests.fuzz", *again], check=False).returncode:
            broken.append(name)
    print(f"broken: {', '.join(broken)}; see {arguments.found}" if broken else "nothing found")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
