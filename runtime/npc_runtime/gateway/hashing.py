"""Which NPCs a percentage means: a fixed hash, so that every gateway, restart and release picks the same characters.

The test vectors in tests/support/vectors/buckets.json pin it; changing it would change the voice of NPCs in the
middle of a rollout.
"""

from __future__ import annotations

from hashlib import sha256

from npc_runtime.wire import NPC_BUCKETS


def bucket(archetype: bytes, npc: bytes) -> int:
    """The bucket, 0 to 9,999, of one NPC: sha256 over archetype, 0x00, NPC id (UTF-8), first 8 bytes big-endian
    modulo 10,000."""
    return int.from_bytes(sha256(archetype + b"\x00" + npc).digest()[:8], "big") % NPC_BUCKETS
