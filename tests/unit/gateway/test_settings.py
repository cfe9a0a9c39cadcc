"""What a gateway is told at its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from npc_runtime import wire
from npc_runtime.gateway.settings import parse_settings


def test_a_gateway_needs_no_flag_and_listens_on_the_ports_of_the_contract() -> None:
    settings = parse_settings([], {})
    assert (settings.port, settings.admin_port) == (wire.GATEWAY_PORT, wire.GATEWAY_ADMIN_PORT)
    assert (settings.health_port, settings.agent_port) == (wire.GATEWAY_HEALTH_PORT, wire.AGENT_PORT)


@pytest.mark.parametrize(
    ("arguments", "environment", "folder"),
    [
        ([], {}, None),
        ([], {"NPC_TLS_DIR": ""}, None),
        ([], {"NPC_TLS_DIR": "/tls"}, Path("/tls")),
        (["--tls-dir", "/mine"], {"NPC_TLS_DIR": "/tls"}, Path("/mine")),
    ],
)
def test_the_data_port_has_a_certificate_where_a_folder_is_named(
    arguments: list[str], environment: dict[str, str], folder: Path | None
) -> None:
    assert parse_settings(arguments, environment).tls_dir == folder


@pytest.mark.parametrize(("environment", "uid"), [({"NPC_POD_UID": "7d1f"}, "7d1f"), ({}, "")])
def test_the_own_pod_is_known_by_the_environment_and_may_be_unknown(environment: dict[str, str], uid: str) -> None:
    assert parse_settings([], environment).pod_uid == uid
