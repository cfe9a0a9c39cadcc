"""One control plane for each module here; see `tests.support.beside_env`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hack.cluster.beside import Beside
from tests.support.beside_env import beside_env


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    with beside_env(tmp_path_factory.mktemp("beside")) as (_, made):
        yield made
