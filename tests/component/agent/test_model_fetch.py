"""The base model's init container, as a process and as a function."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from npc_runtime.agent.errors import AdapterError, Reason
from npc_runtime.agent.fetch.file import FileSource
from npc_runtime.agent.fetch.source import Listing, Piece, RemoteFile, Source
from npc_runtime.agent.model_fetch import MARKER, Progress, bring_model, fetch_model
from npc_runtime.agent.settings import ModelSettings
from tests.unit.agent.makers import make_base

URI = "file:///models/base"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = make_base(tmp_path / "models" / "base")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def settings_of(source: Path, target: Path) -> ModelSettings:
    return ModelSettings(
        uri=f"file://{source}",
        model_dir=target,
        progress_file=target.parent / "progress.json",
        credentials_dir=None,
        file_roots=(source.parent,),
        parallel=2,
        log_level="info",
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


class Counting(Source):
    """A folder that notes the order of reads and fails on demand."""

    def __init__(self, folder: Path) -> None:
        self._source = FileSource("", str(folder), roots=[folder])
        self.reads: list[str] = []
        self.broken = ""
        self._lock = threading.Lock()

    def listing(self) -> Listing:
        return self._source.listing()

    def read(self, file: RemoteFile, offset: int) -> AbstractContextManager[Piece]:
        with self._lock:
            self.reads.append(file.name)
        return self._broken(file, offset) if file.name == self.broken else self._source.read(file, offset)

    def close(self) -> None:
        self._source.close()

    @contextmanager
    def _broken(self, file: RemoteFile, offset: int) -> Iterator[Piece]:
        with self._source.read(file, offset) as piece:
            yield Piece(piece.offset, iter([next(piece.chunks)[:5]]))


def test_a_model_arrives_whole_with_its_config_last(source: Path, tmp_path: Path) -> None:
    counting = Counting(source)
    (tmp_path / "m").mkdir()
    received = bring_model(counting, URI, tmp_path / "m", parallel=2, progress=Progress(None))
    assert contents(tmp_path / "m") == contents(source)
    assert counting.reads[-1] == "config.json"
    assert received == sum(len(data) for data in contents(source).values())
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in (tmp_path / "m").iterdir())


def test_a_complete_model_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    bring_model(Counting(source), URI, tmp_path / "m", parallel=2, progress=Progress(None))
    again = Counting(source)
    progress = Progress(None)
    assert bring_model(again, URI, tmp_path / "m", parallel=2, progress=progress) == 0
    assert again.reads == []
    assert sum(progress.done.values()) == progress.total > 0


def test_what_broke_off_is_resumed_and_is_not_complete_meanwhile(source: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    counting = Counting(source)
    counting.broken = "model.safetensors"
    with pytest.raises(AdapterError) as caught:
        bring_model(counting, URI, tmp_path / "m", parallel=2, progress=Progress(None))
    assert caught.value.reason is Reason.SOURCE_UNAVAILABLE
    assert not (tmp_path / "m" / "config.json").exists()
    counting.broken = ""
    received = bring_model(counting, URI, tmp_path / "m", parallel=2, progress=Progress(None))
    assert contents(tmp_path / "m") == contents(source)
    assert received < sum(len(data) for data in contents(source).values())


def test_another_version_or_model_replaces_the_folder(source: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    bring_model(Counting(source), URI, tmp_path / "m", parallel=2, progress=Progress(None))
    make_base(source, hidden=64)
    (source / "tokenizer.json").unlink()
    bring_model(Counting(source), URI, tmp_path / "m", parallel=2, progress=Progress(None))
    assert contents(tmp_path / "m") == contents(source)
    other = Counting(source)
    bring_model(other, "file:///models/other", tmp_path / "m", parallel=2, progress=Progress(None))
    assert sorted(set(other.reads)) == ["config.json", "model.safetensors"]


def test_weights_that_were_cut_off_at_the_source_are_refused(source: Path, tmp_path: Path) -> None:
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert fetch_model(settings_of(source, tmp_path / "m")) == 2
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["state"] == "failed"
    assert progress["message"].startswith("Truncated")
    assert not (tmp_path / "m" / "config.json").exists()


def test_the_exit_code_says_whether_trying_again_can_help(source: Path, tmp_path: Path) -> None:
    good = settings_of(source, tmp_path / "m")
    assert fetch_model(good) == 0
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["state"] == "done"
    assert progress["doneBytes"] == progress["totalBytes"] > 0
    assert fetch_model(replace(good, uri=f"file://{source}-missing")) == 1
    assert fetch_model(replace(good, uri="file:///etc")) == 2
    assert fetch_model(replace(good, uri="ftp://host/model")) == 2
    (source / "config.json").unlink()
    assert fetch_model(good) == 2


async def test_pods_that_share_a_volume_fetch_once(source: Path, tmp_path: Path) -> None:
    arguments = [
        sys.executable, "-m", "npc_runtime.agent", "fetch-model", f"--uri=file://{source}",
        f"--model-dir={tmp_path / 'm'}", f"--file-root={source.parent}",
    ]  # fmt: skip
    processes = [await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE) for _ in range(3)]
    results = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0, 0]
    received = sorted(json.loads(errors.splitlines()[-1])["received_bytes"] for _, errors in results)
    assert received == [0, 0, sum(len(data) for data in contents(source).values())]
    assert contents(tmp_path / "m") == contents(source)
    assert (tmp_path / "m" / MARKER).exists()
