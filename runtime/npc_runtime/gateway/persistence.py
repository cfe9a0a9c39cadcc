"""The last route table on disk, so that a restarted gateway serves at once with the operator and the API server away.

Two sources at start: the file this process wrote itself (with residency) and a Secret the operator wrote (without, and
compressed, because Secrets are small).
The newer stamp wins; at equal stamps the own file, because it knows more.
"""

from __future__ import annotations

import gzip
import io
import logging
import os
import zlib
from pathlib import Path

from pydantic import ValidationError

from npc_runtime import wire
from npc_runtime.gateway.table import BadTable, CompiledTable, compile_table

log = logging.getLogger(__name__)

FILE_NAME = "routes.json"
GZIP_MAGIC = b"\x1f\x8b"
MAX_BYTES = 16 << 20
"""Largest route table that is read or accepted."""


def save_table(folder: Path, table: wire.RouteTable) -> None:
    """Replace the saved table atomically; the file holds keys, so only its owner may read it.

    Raises:
        OSError: the folder cannot be written.

    """
    temporary = folder / f".{FILE_NAME}.new"
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(table.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / FILE_NAME)


def load_newest(state_dir: Path, routes_file: Path) -> CompiledTable | None:
    """The newest usable table of both sources, or None. What cannot be used is logged and passed over."""
    candidates = [table for table in (_load(state_dir / FILE_NAME), _load(routes_file)) if table is not None]
    # max keeps the first of equals: the own file.
    return max(candidates, key=lambda table: table.stamp.order(), default=None)


def _expand(data: bytes) -> bytes:
    """What a gzip stream holds, at most one byte more than is allowed; anything else as it is."""
    if not data.startswith(GZIP_MAGIC):
        return data
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        return stream.read(MAX_BYTES + 1)


def _load(path: Path) -> CompiledTable | None:
    try:
        with path.open("rb") as file:
            data = _expand(file.read(MAX_BYTES + 1))
    except (EOFError, zlib.error, gzip.BadGzipFile):
        log.warning("a saved route table is damaged", extra={"path": str(path)})
        return None
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("cannot read a saved route table", extra={"path": str(path), "error": error.strerror})
        return None
    try:
        if len(data) > MAX_BYTES:
            raise BadTable("it is too large")
        table = wire.RouteTable.model_validate_json(data)
        if not wire.OLDEST_PROTOCOL <= table.protocol <= wire.PROTOCOL:
            raise BadTable(f"its protocol {table.protocol} is not understood")
        return compile_table(table)
    except ValidationError as error:
        # Only where and what kind: the values may be secrets.
        places = [".".join(map(str, item["loc"])) for item in error.errors(include_input=False, include_url=False)[:5]]
        log.warning("a saved route table is not valid", extra={"path": str(path), "fields": places})
    except BadTable as error:
        log.warning("a saved route table cannot be used", extra={"path": str(path), "error": str(error)})
    return None
