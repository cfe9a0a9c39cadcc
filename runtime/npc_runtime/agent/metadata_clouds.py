"""How each cloud's metadata service is asked: what it wants to see in a request, how often, and where its answers lie.

All of them live on an address that only the machine itself reaches, and speak plain HTTP. No proxy is used, no redirect
followed, and answers are bounded. A token of EC2's is in no log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import aiohttp

from .metadata_parse import (
    Answer,
    parse_events,
    parse_incarnation,
    parse_maintenance,
    parse_preempted,
    parse_rebalance,
    parse_scheduled,
    parse_spot_action,
)

BODY_LIMIT = 256 << 10
AWS_URL = AZURE_URL = "http://169.254.169.254"
GCP_URL = "http://metadata.google.internal"

_TOKEN_SECONDS = 21_600
_TOKEN_MARGIN_SECONDS = 60
_GCP_WAIT_SECONDS = 60
_AZURE_EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
_AZURE_NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
_AZURE_FIRST_SECONDS = 130.0
"""Scheduled events are switched on by the first question, which may take two minutes."""


class MetadataError(Exception):
    """The service answered, but not as it should. The message has a status, never a body."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that is asked again and again: each turn of `turns` is one answer; it raises what a question can fail
    with, and can then be begun anew."""

    name: str
    pause: float
    """Seconds between two turns."""
    turns: Callable[[], AsyncGenerator[Answer, None]]


class Asking:
    """Requests to one service."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")

    async def ask(
        self, path: str, headers: dict[str, str], *, method: str = "GET", seconds: float = 3.0
    ) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers (lower case) of an answer."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self._session.request(
            method, self._url + path, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(16 << 10):
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise MetadataError("an answer has at most 256 KiB")
            told = {key.lower(): value for key, value in response.headers.items()}
            return response.status, body.decode("utf-8", "replace"), told


class Aws:
    """EC2, IMDSv2: a session token first, got by PUT, whose answer travels as far as the hop limit says."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._asking = Asking(session, url or AWS_URL)
        self._token = ""
        self._token_until = 0.0
        self._renewing = asyncio.Lock()

    def topics(self) -> tuple[Topic, ...]:
        """A recommendation and maintenance come early enough to be asked for less often."""
        base = "/latest/meta-data/"
        return (
            Topic("spot/instance-action", 2.0, lambda: self._turns(f"{base}spot/instance-action", parse_spot_action)),
            Topic("rebalance", 10.0, lambda: self._turns(f"{base}events/recommendations/rebalance", parse_rebalance)),
            Topic("scheduled", 10.0, lambda: self._turns(f"{base}events/maintenance/scheduled", parse_scheduled)),
        )

    async def _turns(self, path: str, parse: Callable[[str], Answer]) -> AsyncGenerator[Answer, None]:
        while True:
            status, body, _ = await self._asking.ask(path, {"X-aws-ec2-metadata-token": await self._valid_token()})
            if status == 401:
                self._token_until = 0.0
                raise MetadataError("the token is no longer good")
            if status == 404:
                yield None
            elif status == 200:
                yield parse(body)
            else:
                raise MetadataError(f"status {status}")

    async def _valid_token(self) -> str:
        async with self._renewing:
            if time.monotonic() >= self._token_until:
                status, body, _ = await self._asking.ask(
                    "/latest/api/token",
                    {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)},
                    method="PUT",
                )
                if status != 200 or not body.strip().isprintable():
                    raise MetadataError(f"no token: status {status}")
                self._token = body.strip()
                self._token_until = time.monotonic() + _TOKEN_SECONDS - _TOKEN_MARGIN_SECONDS
            return self._token


class Gcp:
    """Compute Engine: a question waits until its answer changes, and both sides say that they are what they seem."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, clock: Callable[[], float]) -> None:
        self._asking = Asking(session, url or GCP_URL)
        self._clock = clock
        self._said: dict[str, tuple[str, Answer]] = {}

    def topics(self) -> tuple[Topic, ...]:
        """Both are long polls: no pause between them."""
        return (
            Topic("preempted", 0.0, lambda: self._turns("preempted", parse_preempted)),
            Topic("maintenance-event", 0.0, lambda: self._turns("maintenance-event", parse_maintenance)),
        )

    async def _turns(self, name: str, parse: Callable[..., Answer]) -> AsyncGenerator[Answer, None]:
        path, known = f"/computeMetadata/v1/instance/{name}", ""
        while True:
            # The first question is answered at once: what is so already is no change.
            query = f"?wait_for_change=true&timeout_sec={_GCP_WAIT_SECONDS}&last_etag={known}" if known else ""
            status, body, headers = await self._asking.ask(
                path + query, {"Metadata-Flavor": "Google"}, seconds=_GCP_WAIT_SECONDS + 10.0
            )
            if status != 200 or headers.get("metadata-flavor") != "Google":
                raise MetadataError(f"status {status}" if status != 200 else "not Google's metadata service")
            if name not in self._said or self._said[name][0] != body:
                # The time that is left is counted from the change, not from each repetition of it.
                self._said[name] = (body, parse(body, now=self._clock()))
            yield self._said[name][1]
            etag = headers.get("etag", "")
            known = etag if etag.isalnum() else ""
            if not known:
                await asyncio.sleep(1.0)


class Azure:
    """Azure's scheduled events, asked for once a second as its documentation wants it."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, clock: Callable[[], float]) -> None:
        self._asking = Asking(session, url or AZURE_URL)
        self._clock = clock
        self._waits = _AZURE_FIRST_SECONDS

    def topics(self) -> tuple[Topic, ...]:
        return (Topic("scheduledevents", 1.0, self._turns),)

    async def _turns(self) -> AsyncGenerator[Answer, None]:
        headers = {"Metadata": "true"}
        status, machine, _ = await self._asking.ask(_AZURE_NAME, headers)
        if status != 200 or not machine.strip():
            raise MetadataError(f"no name of this machine: status {status}")
        incarnation, said = "", None
        while True:
            status, body, _ = await self._asking.ask(_AZURE_EVENTS, headers, seconds=self._waits)
            if status != 200:
                raise MetadataError(f"status {status}")
            self._waits = 10.0
            found = parse_incarnation(body)
            if not found or found != incarnation:
                incarnation, said = found, parse_events(body, machine=machine.strip(), now=self._clock())
            yield said
