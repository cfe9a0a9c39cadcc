"""Which saved route table a gateway starts with, whoever wrote it and however small it had to be made."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pytest

from npc_runtime import wire
from npc_runtime.gateway import persistence
from npc_runtime.gateway.persistence import load_newest
from tests.unit.gateway.tables import route_table


def stamped(generation: int) -> bytes:
    return route_table(stamp=wire.Stamp(epoch=1, generation=generation)).to_bytes()


def loaded(folder: Path, *, own: bytes = b"", secret: bytes = b"") -> int:
    """Generation of the table a gateway would start with; 0 for none."""
    for name, data in (("routes.json", own), ("secret.gz", secret)):
        if data:
            (folder / name).write_bytes(data)
    table = load_newest(folder, folder / "secret.gz")
    return 0 if table is None else table.stamp.generation


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: data], ids=["packed", "plain"])
@pytest.mark.parametrize(("own", "secret", "wins"), [(1, 2, 2), (2, 1, 2)])
def test_the_newer_of_file_and_secret_wins(tmp_path: Path, pack: object, own: int, secret: int, wins: int) -> None:
    assert callable(pack)
    assert loaded(tmp_path, own=stamped(own), secret=pack(stamped(secret))) == wins


def test_a_damaged_secret_is_passed_over_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = gzip.compress(stamped(9))
    for damaged in (whole[:-12], whole[:20], b"\x1f\x8b", whole[:12] + b"\xff" * 40 + whole[52:]):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert loaded(tmp_path, own=stamped(1), secret=damaged) == 1
        assert "damaged" in caplog.text


def test_a_packed_table_cannot_blow_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "MAX_BYTES", 10_000)
    assert loaded(tmp_path, own=stamped(1), secret=gzip.compress(stamped(9) + b" " * 20_000)) == 1
