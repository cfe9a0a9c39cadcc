"""``python3 -m hack.images``: build the project's images and print their names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hack.cluster.console import say
from hack.cluster.drivers import driver
from hack.cluster.errors import ClusterError
from hack.images.build import by_short_name, push


def main(argv: Sequence[str] | None = None) -> int:
    """Build, and load where asked to; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m hack.images", description="Build the project's images.")
    parser.add_argument("image", nargs="*", help="fleet, engine-base (default: both; with --push, fleet)")
    parser.add_argument("--load", action="store_true", help="load them onto every node of the local cluster as well")
    parser.add_argument(
        "--push",
        metavar="REGISTRY/NAME:TAG",
        help="send one image to a registry and print what it is there by its digest; the login is that of "
        "`docker login`, or of `buildah login` where Docker does not answer (REGISTRY_AUTH_FILE names another file)",
    )
    arguments = parser.parse_args(argv)
    names = arguments.image or (["fleet"] if arguments.push else ["fleet", "engine-base"])
    if arguments.push and (arguments.load or len(names) != 1):
        parser.error("--push sends one image, and loads none")
    try:
        for short_name in names:
            if arguments.push:
                print(push(short_name, arguments.push))
                continue
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
