"""Bounds that are the gateway's own; those a region may set come with the route table (`wire.GatewayLimits`)."""

from __future__ import annotations

MAX_TARGET_BYTES = 2048
"""Longest request target: the served paths are short, queries are not used."""

MAX_ID_BYTES = 256
"""Longest X-NPC-Id and X-Player-Id."""

MAX_REQUEST_ID_BYTES = 128
"""Longest X-Request-Id that is taken over; a longer one is replaced."""

HANDSHAKE_SECONDS = 5.0
"""From a connection to the end of its TLS handshake."""

HEAD_SECONDS = 10.0
"""From the first byte of a request to the end of its headers."""

BODY_SECONDS = 30.0
"""From the end of the headers to the end of the body."""

IDLE_SECONDS = 75.0
"""A kept-alive connection without a request; longer than the 60 s that load balancers keep theirs, so that they
close first."""

LINGER_SECONDS = 5.0
"""After a refusal that leaves unread input: how long input is discarded before closing, so the refusal is not lost
to a reset."""

MAX_PIPELINED_BYTES = 64 << 10
"""Input held while a request is being answered; beyond it, reading pauses."""

WRITE_HIGH_WATER_BYTES = 64 << 10
"""Unsent output at which reading from the engine pauses, until a quarter of it is left."""

UNREAD_SECONDS = 0.7
"""A client for which reading from its engine has been paused for so long is given up: with a sweep every quarter of a
second the engine is free within one. A line of a few sentences never gets there, whatever the client does."""

MAX_ENGINE_HEAD_BYTES = 32 << 10
"""Longest status line and headers of an engine's answer."""

MAX_ENGINE_CHUNK_BYTES = 4 << 20
"""Largest single chunk of a streamed answer; vLLM sends one token's event per chunk."""

MAX_ENGINE_ANSWER_BYTES = 16 << 20
"""Largest answer that is not streamed: it is held until complete, so that a broken one can be retried elsewhere."""

CONNECT_SECONDS = 0.3
"""Time to connect to an engine pod in the same cluster: a round trip takes a millisecond, and the kernel answers for a
busy engine. A first packet that was lost is sent again after a second, too late for a line: another pod is quicker."""

ACKNOWLEDGE_SECONDS = 0.3
"""From a question on a kept-alive connection to the look whether its host has acknowledged anything: a kernel does that
within a round trip and 40 ms, however busy its engine is. A new connection is tried where it has not."""

ENGINE_IDLE_SECONDS = 4.0
"""A pooled engine connection older than this is closed: vLLM's server closes idle ones after 5 s."""

ENGINE_SILENT_SECONDS = 20
"""A host that acknowledges nothing for so long is gone, with all lines on it: a node that lost its power says no word.
Longer than an engine may be too busy to read (its kernel answers for it unless its buffers are full)."""

MAX_ATTEMPTS = 3
"""Pods tried for one request before it fails."""

MAX_BREAKS = 2
"""Pods that may break under one request: if the request itself is what kills engines, it must not go through the
fleet."""
