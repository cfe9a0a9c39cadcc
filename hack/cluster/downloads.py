"""Official release downloads, verified against the checksum published beside them.

One short attempt decides for each site: where it cannot be reached, the tool says so once and builds instead.
``NPC_FLEET_OFFLINE=1`` skips the attempts.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.console import say, step
from hack.cluster.errors import ClusterError

_CONNECT_SECONDS = 4.0
_MAX_CHECKSUM_BYTES = 1 << 20
_unreachable: set[str] = set()


@dataclass(frozen=True, slots=True)
class Release:
    """Where a release lies. ``member`` is the file inside a tar archive; empty when ``url`` is the program itself."""

    url: str
    checksums: str
    member: str = ""


def find_checksum(text: str, file_name: str) -> str | None:
    """The sha256 of ``file_name`` in a checksum file: a lone digest, or lines of digest and name."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for words in lines:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", words[0]):
            continue
        if len(words) == 1 and len(lines) == 1:
            return words[0].lower()
        if len(words) >= 2 and words[-1].lstrip("*").rsplit("/", 1)[-1] == file_name:
            return words[0].lower()
    return None


def fetch(release: Release, target: Path, *, what: str) -> bool:
    """Download ``release`` to ``target``, executable, whole or not at all; False when the site cannot be reached.

    :raises ClusterError: when the site answers with bytes that do not have the published checksum.
    """
    host = urllib.parse.urlsplit(release.url).netloc
    if os.environ.get("NPC_FLEET_OFFLINE") == "1" or host in _unreachable:
        return False
    temporary = target.with_name(f".{target.name}.download")
    try:
        with urllib.request.urlopen(release.checksums, timeout=_CONNECT_SECONDS) as answer:
            published = answer.read(_MAX_CHECKSUM_BYTES).decode("utf-8", "replace")
        wanted = find_checksum(published, release.url.rsplit("/", 1)[-1])
        if wanted is None:
            raise ClusterError(f"{release.checksums} has no sha256 for {release.url}")
        with step(f"downloading {what} from {host}", usually="2 to 20 s"):
            with urllib.request.urlopen(release.url, timeout=30) as answer, temporary.open("wb") as output:
                shutil.copyfileobj(answer, output, 1 << 20)
            with temporary.open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
            if actual != wanted:
                raise ClusterError(f"{release.url} has sha256 {actual}, published is {wanted}: refusing to use it")
            if release.member:
                _extract(temporary, release.member, temporary)
            temporary.chmod(0o755)
            temporary.rename(target)
    except (OSError, http.client.HTTPException) as error:
        _unreachable.add(host)
        reason = getattr(error, "reason", None) or error
        say(f"official downloads from {host} cannot be had ({reason}); building from source instead")
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _extract(archive: Path, member: str, target: Path) -> None:
    unpacked = target.with_name(f"{target.name}.member")
    try:
        with tarfile.open(archive) as tar:
            source = tar.extractfile(member)
            if source is None:
                raise ClusterError(f"{archive.name} has no file {member}")
            with source, unpacked.open("wb") as output:
                shutil.copyfileobj(source, output, 1 << 20)
        unpacked.rename(target)
    except (KeyError, tarfile.TarError) as error:
        raise ClusterError(f"{archive.name} is not the archive that was expected: {error}") from error
    finally:
        unpacked.unlink(missing_ok=True)
