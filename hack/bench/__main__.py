"""`python -m hack.bench [row ...]`: measures, and prints the table that docs/benchmarks.md keeps.

Without a row it measures all of them, one after the other. Every figure is taken three times; the table shows the
runs, their median and spread, the bar of the design, and what others reach. Exit code 0 says that everything was
measured, not that every bar was met: the table says that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hack.bench.figures import Figure, render_table
from hack.bench.plan import Options, Row
from hack.bench.rows import ROWS

MORE = """
of one row alone:
  python -m hack.bench.spot_cells --trace FILE   a recorded spot market (a CSV; docs/benchmarks.md has one)
  make bench-plot                                every cell of spot, and docs/spot-market.png
  python -m hack.bench.gateway --plain           the gateway with nothing switched on
"""


def say(line: str) -> None:
    """Progress, beside the table."""
    print(f"[bench] {line}", file=sys.stderr, flush=True)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    defaults = Options()
    names = "\n".join(
        f"  {row.name:<16} {row.what} ({row.minutes}{'; needs root' if row.needs_cluster else ''})" for row in ROWS
    )
    parser = argparse.ArgumentParser(
        prog="python -m hack.bench",
        description=__doc__,
        epilog=f"rows:\n{names}\n{MORE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "rows", nargs="*", metavar="row", choices=[[], *(row.name for row in ROWS)], help="which; all by default"
    )
    parser.add_argument(
        "--runs", type=int, default=defaults.runs, help="of each figure; of spot a run is a seed (default: %(default)s)"
    )
    parser.add_argument("--adapters", type=int, default=defaults.adapters, help="voices (default: %(default)s)")
    parser.add_argument("--changes", type=int, default=defaults.changes, help="per run (default: %(default)s)")
    parser.add_argument(
        "--rest-seconds", type=float, default=defaults.rest_seconds, help="one window at rest (default: %(default)g)"
    )
    parser.add_argument(
        "--gateway-seconds", type=float, default=defaults.gateway_seconds, help="one run (default: %(default)g)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    return parser


def describe_machine() -> dict[str, Any]:
    """What the figures were taken on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count(),
        "memory GiB": round(memory, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load before": [round(value, 2) for value in os.getloadavg()],
    }


async def measure(rows: Sequence[Row], options: Options) -> tuple[list[Figure], list[str]]:
    """All rows in order; a row that breaks costs its own figures and is named."""
    figures: list[Figure] = []
    broken: list[str] = []
    for row in rows:
        began = time.monotonic()
        say(f"{row.name}: {row.what} (usually {row.minutes}); load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        try:
            found = await row.run(options)
        except Exception as error:  # noqa: BLE001 - one row must not cost the figures of the others; it is named below
            broken.append(f"{row.name}: {type(error).__name__}: {error}")
            notes = getattr(error, "__notes__", ())
            say("\n".join([f"BROKEN {broken[-1]}", *notes]))
            continue
        figures += found
        say(f"{row.name} took {time.monotonic() - began:.0f} s\n{render_table(found)}")
    return figures, broken


async def _until_done_or_told(rows: Sequence[Row], options: Options) -> tuple[list[Figure], list[str]]:
    """`measure`, ended in good order by SIGTERM and SIGINT alike: nothing that was started may stay."""
    work = asyncio.ensure_future(measure(rows, options))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    return await work


def main() -> int:
    """Exit code 0, 1 when a row could not be measured, 130 when it was stopped."""
    arguments = build_parser().parse_args()
    options = Options(
        runs=arguments.runs,
        adapters=arguments.adapters,
        changes=arguments.changes,
        rest_seconds=arguments.rest_seconds,
        gateway_seconds=arguments.gateway_seconds,
        say=say,
    )
    machine = describe_machine()
    chosen = [row for row in ROWS if not arguments.rows or row.name in arguments.rows]
    try:
        figures, broken = asyncio.run(_until_done_or_told(chosen, options))
    except asyncio.CancelledError:
        say("stopped; everything that was started is gone")
        return 130
    machine["load after"] = [round(value, 2) for value in os.getloadavg()]
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(render_table(figures))
    for fault in broken:
        print(f"not measured: {fault}")
    if arguments.json:
        found = {"machine": machine, "figures": [figure.as_json() for figure in figures], "not measured": broken}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
