"""The names, keys and tokens that gateways, engines and agents of these tests share."""

from __future__ import annotations

NAMESPACE = "eu"
KEY = "game-key"
ENGINE_KEY = "engine-key"
AGENT_TOKEN = "agent-token"
ADMIN_TOKEN = "admin-token"
OLD = "sha256:" + "a1" * 32
NEW = "sha256:" + "b2" * 32
