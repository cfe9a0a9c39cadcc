"""The Debian packages a cluster needs, installed when something they bring is missing.

On other distributions nothing is installed; the error names what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from hack.cluster.console import run_logged, say, step
from hack.cluster.errors import ClusterError
from hack.cluster.paths import cache_dir

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What has to be there -> the package that brings it. A leading slash means a file, everything else a command.
NODES: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "ip": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",  # the portmap plugin and hosts whose firewall drops forwarded packets
    "conntrack": "conntrack",
    "mount": "mount",
    "openssl": "openssl",
    "/bin/busybox": "busybox-static",
}
IMAGES: Mapping[str, str] = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
# A fresh machine often updates itself just now. apt waits for dpkg when told to, and for the lists' lock never.
_PATIENT = ("-o", "DPkg::Lock::Timeout=300")
_UPDATE_TRIES = 30
_UPDATE_PAUSE_SECONDS = 10.0
PYTHON_VENV = "python3-venv"  # Debian splits it from python3; asked for when making one fails


def find_command(name: str) -> str | None:
    """The path of a command, also in the sbin folders that a user's PATH often lacks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def missing_packages(needs: Mapping[str, str]) -> list[str]:
    """The packages to install so that every command and file of ``needs`` is there."""
    absent = {
        package
        for need, package in needs.items()
        if not (Path(need).exists() if need.startswith("/") else find_command(need))
    }
    return sorted(absent)


def ensure(needs: Mapping[str, str], *, purpose: str) -> None:
    """Install what is missing, after saying so.

    :raises ClusterError: when it cannot be installed here; names the packages.
    """
    ensure_packages(missing_packages(needs), purpose=purpose)


def ensure_packages(packages: Iterable[str], *, purpose: str) -> None:
    """Install these packages with apt.

    :raises ClusterError: without apt, without root, or when apt fails.
    """
    wanted = sorted(set(packages))
    if not wanted:
        return
    names = " ".join(wanted)
    if find_command("apt-get") is None:
        raise ClusterError(f"{purpose} needs these packages (Debian names): {names}; install them and try again")
    if os.geteuid() != 0:
        raise ClusterError(f"{purpose} needs: sudo apt-get install --no-install-recommends {names}")
    say(f"{purpose} needs packages that are not installed: {names}")
    log = cache_dir() / "logs" / "apt.log"
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    install = ["apt-get", *_PATIENT, "install", "-y", "--no-install-recommends", *wanted]
    with step(f"installing {names} with apt", usually="20 to 60 s"):
        if subprocess.run(["apt-get", "install", "--simulate", *wanted], capture_output=True, check=False).returncode:
            _update(log, env)
        try:
            run_logged(install, log=log, what="apt-get install", env=env)
        except ClusterError:
            # A stale package list names versions the mirror no longer has.
            _update(log, env)
            run_logged(install, log=log, what="apt-get install", env=env)


def _update(log: Path, env: Mapping[str, str]) -> None:
    for tries_left in reversed(range(_UPDATE_TRIES)):
        try:
            run_logged(["apt-get", *_PATIENT, "update"], log=log, what="apt-get update", env=env)
        except ClusterError as error:
            if not tries_left or "Could not get lock" not in str(error):
                raise
            say(
                "another apt holds the lock of the package lists; "
                f"trying again in {_UPDATE_PAUSE_SECONDS:.0f} s ({tries_left} more times)"
            )
            time.sleep(_UPDATE_PAUSE_SECONDS)
        else:
            return
