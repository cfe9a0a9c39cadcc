"""``python3 -m hack.images``: build the project's images and print their names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hack.cluster.console import say
from hack.cluster.drivers import driver
from hack.cluster.errors import ClusterError
from hack.images.build import by_short_name


def main(argv: Sequence[str] | None = None) -> int:
    """Build, and load where asked to; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m hack.images", description="Build the project's images.")
    parser.add_argument("image", nargs="*", default=["fleet", "engine-base"], help="fleet, engine-base (default: both)")
    parser.add_argument("--load", action="store_true", help="load them onto every node of the local cluster as well")
    arguments = parser.parse_args(argv)
    try:
        for short_name in arguments.image:
            image = by_short_name(short_name)
            if arguments.load:
                driver().load_image(image)
            print(image.name)
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
