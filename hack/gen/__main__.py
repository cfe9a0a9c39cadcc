"""`python -m hack.gen` writes the generated files; with `--check` it writes nothing, prints every difference and exits
1 if there is one."""

from __future__ import annotations

import argparse
import difflib
import sys

from hack.gen.outputs import ROOT, collect_outputs, find_leftovers


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.gen", description="Write the generated files.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a file differs from what would be written"
    )
    check: bool = parser.parse_args().check
    outputs = collect_outputs()
    leftovers = find_leftovers(outputs)
    differences = 0
    for path, text in outputs.items():
        present = path.read_text(encoding="utf-8") if path.is_file() else ""
        if present == text:
            continue
        differences += 1
        name = str(path.relative_to(ROOT))
        if check:
            sys.stdout.writelines(
                difflib.unified_diff(
                    present.splitlines(keepends=True),
                    text.splitlines(keepends=True),
                    f"committed/{name}",
                    f"generated/{name}",
                )
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    for path in leftovers:
        differences += 1
        name = str(path.relative_to(ROOT))
        if check:
            print(f"{name} is not generated any more")
        else:
            path.unlink()
            print(f"removed {name}")
    if check and differences:
        print(f"{differences} generated file(s) differ: run `make generate` and commit what it writes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
