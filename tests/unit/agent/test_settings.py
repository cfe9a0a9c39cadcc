from __future__ import annotations

from pathlib import Path

import pytest

from npc_runtime.agent.settings import ModelSettings, Settings, parse
from npc_runtime.wire import AGENT_HEALTH_PORT, AGENT_PORT

REQUIRED = [
    "serve", "--engine-url=http://127.0.0.1:8000/", "--internal-dir=/i", "--adapters-dir=/a",
    "--max-cpu-loras=8", "--max-lora-rank=16", "--namespace=n", "--region=r", "--tier=t", "--pod=p",
]  # fmt: skip


def test_the_required_flags_are_enough() -> None:
    settings = parse(REQUIRED)
    assert isinstance(settings, Settings)
    assert settings.engine_url == "http://127.0.0.1:8000"
    assert (settings.port, settings.health_port) == (AGENT_PORT, AGENT_HEALTH_PORT)
    assert settings.engine_key_files == settings.file_roots == ()


def test_the_own_pod_is_known_by_the_environment_and_may_be_unknown() -> None:
    for environment, uid in (({"NPC_POD_UID": "7d1f"}, "7d1f"), ({}, "")):
        settings = parse(REQUIRED, environment)
        assert isinstance(settings, Settings)
        assert settings.pod_uid == uid


def test_repeatable_flags_keep_their_order() -> None:
    settings = parse([*REQUIRED, "--engine-key-file=/1", "--engine-key-file=/2", "--file-root=/x", "--file-root=/y"])
    assert isinstance(settings, Settings)
    assert settings.engine_key_files == (Path("/1"), Path("/2"))
    assert settings.file_roots == (Path("/x"), Path("/y"))


def test_an_adapter_is_never_allowed_more_than_the_cache() -> None:
    settings = parse([*REQUIRED, "--cache-size=1000"])
    assert isinstance(settings, Settings)
    assert settings.max_adapter_size == 1000


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        [*REQUIRED, "--cache-size=0"],
        [*REQUIRED, "--cache-size=10Gi"],
        [*REQUIRED, "--drain-seconds=-1"],
        [*REQUIRED, "--unknown"],
        ["fetch-model", "--uri=s3://b/m"],
    ],
)
def test_wrong_usage_ends_with_code_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert "usage: npc-agent" in capsys.readouterr().err


def test_the_model_command_is_its_own() -> None:
    settings = parse(["fetch-model", "--uri=s3://b/m", "--model-dir=/m", "--parallel=2"])
    assert settings == ModelSettings("s3://b/m", Path("/m"), None, None, (), 2, "info")
