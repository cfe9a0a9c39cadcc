"""Make the engine's packages and the test models: `python -m hack.models check | venv | make DIR | answers | lock`."""

import argparse
import sys
import tempfile
from pathlib import Path

from hack.models.catalog import make_catalog
from hack.models.environment import EngineEnvironmentError, engine_python, ensure_packages, lock_packages
from hack.models.tensors import write_json


def main(arguments: list[str]) -> int:
    """Run one command; prints what it made on stdout and progress on stderr."""
    parser = argparse.ArgumentParser(prog="python -m hack.models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="print the Python that a real vLLM would run on here, or say what to install")
    commands.add_parser("venv", help="install the locked vLLM for the CPU and print its folder (for PYTHONPATH)")
    make = commands.add_parser(
        "make", help="write the base model and its adapters, and print name and digest of each adapter"
    )
    make.add_argument("directory", type=Path)
    commands.add_parser("lock", help="resolve requirements/vllm.txt anew")
    commands.add_parser("answers", help="compute hack/models/answers.json anew, after seeds were chosen")
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            print(engine_python())
        elif options.command == "venv":
            print(ensure_packages())
        elif options.command == "make":
            _make(options.directory)
        elif options.command == "answers":
            _answers()
        else:
            lock_packages()
    except EngineEnvironmentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _make(directory: Path) -> None:
    for name, digest in make_catalog(directory).digests.items():
        print(f"{digest}  {name}")


def _answers() -> None:
    # Only here: numpy is not needed to make models, nor vLLM to install it.
    from hack.models.margins import ANSWERS, compute_answers

    with tempfile.TemporaryDirectory() as directory:
        write_json(ANSWERS, compute_answers(make_catalog(Path(directory))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
