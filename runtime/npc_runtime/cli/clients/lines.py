"""Asking a character as a game server does: one streamed chat completion over a given connection."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..answers import Code
from ..ports import CliError

LINE_LIMIT = 1 << 20
"""Bytes of one event: more is no chat completion."""
DONE = "[DONE]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, of whom, and as whom."""

    archetype: str
    text: str
    tier: str = ""
    npc: str = ""
    max_tokens: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A complete line and who spoke it."""

    text: str
    tier: str
    digest: str
    degraded: str
    request_id: str
    first_token_seconds: float
    seconds: float


class NoLine(CliError):
    """The gateway refused, or the line broke off."""

    def __init__(self, message: str, *, step: str = "") -> None:
        super().__init__(message, Code.NO_LINE, step=step)


def secure(connection: socket.socket) -> socket.socket:
    """TLS over a connection that the API server has led into the pod itself.

    The certificate is for the name that game servers call, which is not known here, and its authority may be anyone's;
    who answers is already certain, because the API server and the kubelet have picked the pod.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


def speak(
    connection: socket.socket, question: Question, *, key: str, timeout: float, heard: Callable[[str], None]
) -> Spoken:
    """Ask, and hand each piece of the answer to `heard` as it comes. `timeout` is in seconds between two pieces.

    Raises NoLine if there is no complete line, and OSError if the connection breaks.
    """
    connection.settimeout(timeout)
    exchange = http.client.HTTPConnection("gateway")
    exchange.sock = connection
    body = {
        "model": question.archetype,
        "stream": True,
        "max_tokens": question.max_tokens,
        "messages": [{"role": "user", "content": question.text}],
    }
    headers = {"Content-Type": "application/json", "Connection": "close"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    if question.tier:
        headers["X-NPC-Tier"] = question.tier
    if question.npc:
        headers["X-NPC-Id"] = question.npc
    began = time.monotonic()
    pieces: list[str] = []
    first = 0.0
    try:
        # A gateway may answer before it has read all, as it does where it does not know the key; its words are there to
        # be read, and where there are none the next line says so.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            exchange.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = exchange.getresponse()
        if response.status != 200:
            raise _refused(response.status, response.read(LINE_LIMIT))
        complete = False
        for event in _events(response):
            if event == DONE:
                complete = True
                break
            piece = _piece(event)
            if piece:
                first = first or time.monotonic() - began
                pieces.append(piece)
                heard(piece)
    except http.client.RemoteDisconnected:
        # Not a word came: whoever led the connection there knows why.
        raise
    except http.client.HTTPException as error:
        raise NoLine(f"the line broke off: {type(error).__name__}") from None
    if not complete:
        raise NoLine("the line broke off before its end, so it does not count")
    return Spoken(
        text="".join(pieces),
        tier=response.headers.get("X-NPC-Served-Tier", ""),
        digest=response.headers.get("X-NPC-Served-By", ""),
        degraded=response.headers.get("X-NPC-Degraded", ""),
        request_id=response.headers.get("X-Request-Id", ""),
        first_token_seconds=round(first, 3),
        seconds=round(time.monotonic() - began, 3),
    )


def _events(response: http.client.HTTPResponse) -> Iterator[str]:
    while line := response.readline(LINE_LIMIT):
        if line.startswith(b"data:"):
            yield line[5:].decode(errors="replace").strip()


def _piece(event: str) -> str:
    """The text of one event. Raises NoLine for an error event."""
    try:
        parsed = json.loads(event)
    except ValueError:
        raise NoLine("the gateway sent something that is no event") from None
    if "error" in parsed:
        raise NoLine(f"the line ended with an error: {_said(parsed)}")
    choices = parsed.get("choices") or [{}]
    content = (choices[0].get("delta") or {}).get("content")
    return content if isinstance(content, str) else ""


def _refused(status: int, body: bytes) -> NoLine:
    try:
        said = _said(json.loads(body))
    except ValueError:
        said = "no reason given"
    steps = {401: "name the right key with --key-secret SECRET/ENTRY", 503: "kubectl npc why"}
    return NoLine(f"the gateway answered {status}: {said}", step=steps.get(status, ""))


def _said(parsed: object) -> str:
    error = parsed.get("error") if isinstance(parsed, dict) else None
    if not isinstance(error, dict):
        return "no reason given"
    return f"{error.get('code') or error.get('type') or 'error'}: {error.get('message', '')}"
