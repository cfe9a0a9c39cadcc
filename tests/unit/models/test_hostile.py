"""The hostile adapters: each is refused by the agent's inspection, for its own reason."""

import shutil
from pathlib import Path

import pytest

from hack.models.base import DEFAULT_BASE, make_base
from hack.models.hostile import HOSTILE
from hack.models.hostile.files import OVERSIZE_BYTES, WEIGHTS
from npc_runtime.agent.errors import AdapterError
from npc_runtime.agent.inspect.adapter import Limits, inspect_adapter
from npc_runtime.agent.inspect.base import BaseModel, read_base

BY_INSPECTION = [name for name, one in HOSTILE.items() if not one.wrong_digest and one.reason != "TooLarge"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return read_base(make_base(tmp_path_factory.mktemp("base")))


@pytest.mark.parametrize("name", BY_INSPECTION)
def test_the_inspection_refuses_it_for_its_own_reason_and_for_good(name: str, base: BaseModel, tmp_path: Path) -> None:
    folder = HOSTILE[name].make(tmp_path / name, DEFAULT_BASE)
    with pytest.raises(AdapterError) as refused:
        inspect_adapter(folder, limits=Limits(max_rank=16), base=base)
    assert refused.value.reason == HOSTILE[name].reason
    assert refused.value.permanent


def test_what_they_all_start_from_is_sound(base: BaseModel, tmp_path: Path) -> None:
    sound = HOSTILE["wrong-digest"].make(tmp_path / "sound", DEFAULT_BASE)
    assert inspect_adapter(sound, limits=Limits(max_rank=16), base=base).max_rank == 8


def test_the_oversize_one_is_large_and_takes_no_room(tmp_path: Path) -> None:
    weights = HOSTILE["oversize"].make(tmp_path / "oversize", DEFAULT_BASE) / WEIGHTS
    assert weights.stat().st_size == OVERSIZE_BYTES
    assert weights.stat().st_blocks * 512 < 1 << 20


def test_those_that_survive_an_object_store_hold_regular_files_only(tmp_path: Path) -> None:
    for name, hostile in HOSTILE.items():
        folder = hostile.make(tmp_path / name, DEFAULT_BASE)
        if hostile.survives_s3:
            assert all(path.is_file() and not path.is_symlink() for path in folder.iterdir()), name
        shutil.rmtree(folder)
