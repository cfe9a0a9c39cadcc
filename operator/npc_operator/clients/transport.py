"""How the operator talks to pods: JSON over TLS to a pod's IP, proven by the namespace's own certificate and token.

Pod IPs are reused, so an address proves nothing: the certificate must be signed by the namespace's CA and carry the
namespace's internal name, and each request carries the namespace's token. Both may be in the middle of a rotation, so
the CA is a bundle and a refused token is tried again with the previous one. All pods of a namespace share the two, so
each request also names the pod it means; a refusal with OtherPod tells where that pod is not, and nothing about it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
from pydantic import ValidationError

from npc_operator.clients.sockets import keepalive_socket
from npc_operator.ports import PortError, StaleLeader
from npc_runtime.wire import POD_HEADER, Refusal, Wire, server_name

M = TypeVar("M", bound=Wire)

PUSH_SECONDS = 15.0
CONNECT_SECONDS = 3.0
POLL_GRACE_SECONDS = 10.0
"""A long poll is given up so long after it should have answered."""
PUSHES_AT_ONCE = 64
REMEMBERED_MESSAGES = 4
SWEEP_SECONDS = 60.0
"""How often sessions of namespaces that are gone are looked for."""

_PERMANENT = frozenset({"BadMessage", "UnsupportedProtocol", "TooLarge", "NotFound"})


@dataclass(frozen=True, slots=True)
class Trust:
    """What a namespace's SECRET_INTERNAL says about identity. `tokens` are in the order to try."""

    ca: str
    tokens: tuple[str, ...] = field(repr=False)


@dataclass(slots=True, eq=False)
class _Line:
    """A namespace's connections, all verified by one CA bundle."""

    ca: str
    session: aiohttp.ClientSession
    busy: int = 0
    """Requests under way."""


class PodTransport:
    """Sessions to the pods of all namespaces. `trust` looks the namespace's identity up, None while it is not known
    yet."""

    def __init__(self, *, port: int, trust: Callable[[str], Trust | None]) -> None:
        self._port = port
        self._trust = trust
        self._lines: dict[str, _Line] = {}
        self._retired: set[_Line] = set()
        self._swept = 0.0
        self._pushes = asyncio.Semaphore(PUSHES_AT_ONCE)
        self._written: deque[tuple[Wire, bytes]] = deque(maxlen=REMEMBERED_MESSAGES)

    async def close(self) -> None:
        lines = [*self._lines.values(), *self._retired]
        self._lines.clear()
        self._retired.clear()
        self._written.clear()
        for line in lines:
            await line.session.close()

    def open_sessions(self) -> int:
        """How many sessions hold, or may open, connections."""
        return len(self._lines) + len(self._retired)

    async def put(self, namespace: str, address: str, path: str, message: Wire, answer: type[M], *, pod_uid: str) -> M:
        """Hand a whole state over. Raises StaleLeader or PortError."""
        async with self._pushes:
            body = self._bytes_of(message)
            return await self._ask(
                "PUT", namespace, address, path, answer, pod_uid=pod_uid, body=body, seconds=PUSH_SECONDS
            )

    def _bytes_of(self, message: Wire) -> bytes:
        """The message as JSON. One object goes to all pods of a tier: a thousand adapters are written out once, not
        once per pod. Only the last few are remembered, by identity, so that no order outlives its use.
        """
        for index, (known, body) in enumerate(self._written):
            if known is message:
                del self._written[index]
                self._written.append((known, body))
                return body
        body = message.to_bytes()
        self._written.append((message, body))
        return body

    async def poll(
        self,
        namespace: str,
        address: str,
        path: str,
        answer: type[M],
        *,
        pod_uid: str,
        after: int,
        boot_id: str,
        wait_seconds: int,
    ) -> M:
        """Long poll: returns when there is news, or after `wait_seconds`. Raises PortError."""
        query = {"after": str(after), "boot": boot_id, "wait": str(wait_seconds)}
        seconds = wait_seconds + POLL_GRACE_SECONDS
        return await self._ask("GET", namespace, address, path, answer, pod_uid=pod_uid, query=query, seconds=seconds)

    async def _ask(
        self,
        method: str,
        namespace: str,
        address: str,
        path: str,
        answer: type[M],
        *,
        pod_uid: str,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        seconds: float,
    ) -> M:
        await self._sweep()
        trust = self._trust(namespace)
        if trust is None or not trust.tokens:
            raise PortError(
                f"{method} {path}: the namespace {namespace} has no internal credentials yet", reason="NoCredentials"
            )
        host = f"[{address}]" if ":" in address else address
        what = f"{method} https://{host}:{self._port}{path}"
        status, raw = 0, b""
        line = self._line(namespace, trust)
        line.busy += 1
        try:
            for token in trust.tokens:
                try:
                    async with line.session.request(
                        method,
                        f"https://{host}:{self._port}{path}",
                        params=query,
                        data=body,
                        headers={
                            "Authorization": f"Bearer {token}",
                            "Content-Type": "application/json",
                            POD_HEADER: pod_uid,
                        },
                        timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
                        server_hostname=server_name(namespace),
                        allow_redirects=False,
                    ) as response:
                        status, raw = response.status, await response.read()
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    raise PortError(f"{what}: {_describe(error)}", reason="Unreachable") from error
                if status != 401:
                    break
        finally:
            line.busy -= 1
            await self._end_retired()
        try:
            if 200 <= status < 300:
                return answer.model_validate_json(raw)
            refusal = Refusal.model_validate_json(raw)
        except ValidationError as error:
            if 200 <= status < 300:
                text = f"{what}: the answer cannot be understood ({error.error_count()} faults)"
                raise PortError(text, reason="BadMessage", code=status) from None
            raise PortError(f"{what}: HTTP {status}", reason="Unavailable", code=status) from None
        text = f"{what}: {refusal.reason}: {refusal.message}"
        if refusal.reason == "StaleOrder" and refusal.current is not None:
            raise StaleLeader(text, current=refusal.current)
        raise PortError(text, reason=refusal.reason, retryable=refusal.reason not in _PERMANENT, code=status)

    def _line(self, namespace: str, trust: Trust) -> _Line:
        known = self._lines.get(namespace)
        if known is not None and known.ca == trust.ca and not known.session.closed:
            return known
        try:
            context = ssl.create_default_context(cadata=trust.ca)
        except ssl.SSLError as error:
            raise PortError(f"the CA of namespace {namespace} cannot be read", reason="BadCertificate") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=context, keepalive_timeout=75, socket_factory=keepalive_socket, use_dns_cache=False
            ),
            headers={"User-Agent": "npc-operator"},
        )
        if known is not None:
            # Running long polls go on with what they were verified by; they end with their next answer.
            self._retired.add(known)
        self._lines[namespace] = made = _Line(trust.ca, session)
        return made

    async def _sweep(self) -> None:
        """Take leave of namespaces that are gone (nobody asks for them any more), and of what nothing uses."""
        now = asyncio.get_running_loop().time()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        for namespace in [namespace for namespace in self._lines if self._trust(namespace) is None]:
            self._retired.add(self._lines.pop(namespace))
        await self._end_retired()

    async def _end_retired(self) -> None:
        for line in [line for line in self._retired if not line.busy]:
            self._retired.discard(line)
            await line.session.close()


def _describe(error: BaseException) -> str:
    """What went wrong on the wire; requests' headers are never part of it."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its certificate is not the namespace's"
    return type(error).__name__ if not isinstance(error, OSError) or not error.strerror else error.strerror
