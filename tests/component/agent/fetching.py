"""A fetch as the agent does it, for tests of what it fetches from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.fetch.download import Downloaded, download_adapter
from npc_runtime.agent.fetch.uri import Expected, open_source
from tests.unit.agent.makers import make_adapter

LIMIT = 32 << 20
WEIGHTS = "adapter_model.safetensors"


def fetch(
    uri: str,
    staging: Path,
    digest: str,
    *,
    credentials: dict[str, str] | None = None,
    roots: tuple[Path, ...] = (),
    size_limit: int = LIMIT,
    stop_after: int | None = None,
) -> Downloaded:
    seen = 0

    def note(done: int, total: int) -> None:
        nonlocal seen
        seen = done

    source = open_source(uri, credentials=credentials or {}, file_roots=roots, expected=Expected(digest))
    try:
        return download_adapter(
            source,
            staging,
            digest=digest,
            size_limit=size_limit,
            reserve=lambda _: None,
            progress=note,
            stopped=lambda: stop_after is not None and seen > stop_after,
        )
    finally:
        source.close()


def reason_of(*args: object, **options: object) -> Reason:
    with pytest.raises(AdapterError) as caught:
        fetch(*args, **options)  # type: ignore[arg-type]
    return caught.value.reason


def big_adapter(folder: Path) -> Path:
    """An adapter whose weights take several chunks; nobody inspects it here."""
    make_adapter(folder)
    (folder / WEIGHTS).write_bytes(os.urandom(5 << 20))
    return folder
