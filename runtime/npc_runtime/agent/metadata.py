"""Whether the machine below this pod goes away, as its cloud's metadata service says. Off unless the tier says so.

The operator hears of it through the report, and takes the pod off the routes as soon as other pods can take its lines.
The agent itself cannot know that, so it says draining only when it must: DRAIN_SECONDS before the machine goes. That
holds with the operator away, since gateways listen to agents themselves.

A service that cannot be reached says nothing about the machine: the last word stands. It is told once, because the
usual cause is a setting: EC2's hop limit of 1, with which a pod never sees the answer to its first question.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Literal

import aiohttp

from ..wire import InterruptionReport
from .metadata_clouds import Aws, Azure, Gcp, MetadataError, Topic
from .metadata_parse import Answer, Strange, Word, strongest

Cloud = Literal["AWS", "GCP", "Azure"]
CLOUDS: tuple[Cloud, ...] = ("AWS", "GCP", "Azure")
Failure = Literal["Unheard", "Strange"]

DRAIN_SECONDS = 25.0
"""Before the machine goes, the pod takes no new line: those that run need as long."""
NOTICE_SECONDS = 30.0
"""Where an interruption is told without a time: the shortest notice that a cloud gives."""
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses after questions that failed; the last repeats. Short against the shortest notice, and few for a machine that
nobody else asks."""

log = logging.getLogger(__name__)


class StrangeAnswerError(MetadataError):
    """The service answered with something that this version does not understand."""


class MetadataWatch:
    """What the metadata service says now. `changed` is called on the loop whenever `report` or `draining` changes,
    `failed` with Unheard or Strange for every question that no answer came to, or one that is not understood."""

    def __init__(
        self,
        cloud: Cloud,
        url: str,
        *,
        changed: Callable[[], None],
        failed: Callable[[Failure], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cloud = cloud
        self._url = url
        self._changed = changed
        self._failed = failed
        self._clock = clock
        self._words: dict[str, Word] = {}  # by topic
        self._news = asyncio.Event()
        self._shown: tuple[InterruptionReport | None, bool] = (None, False)

    @property
    def report(self) -> InterruptionReport | None:
        """For the operator."""
        return self._shown[0]

    @property
    def draining(self) -> bool:
        """No new line may be taken: the machine goes in DRAIN_SECONDS or less."""
        return self._shown[1]

    async def run(self) -> None:
        """Asks until cancelled."""
        # No cookies, no proxies of the environment, no connection kept for long: these are local questions.
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session, asyncio.TaskGroup() as group:
            group.create_task(self._follow_time())
            for topic in self._topics(session):
                group.create_task(self._follow(topic))

    def _topics(self, session: aiohttp.ClientSession) -> tuple[Topic, ...]:
        match self._cloud:
            case "AWS":
                return Aws(session, self._url).topics()
            case "GCP":
                return Gcp(session, self._url, clock=self._clock).topics()
            case "Azure":
                return Azure(session, self._url, clock=self._clock).topics()

    async def _follow(self, topic: Topic) -> None:
        failures = 0
        while True:
            turns = topic.turns()
            try:
                async with aclosing(turns):
                    async for answer in turns:
                        self._heard(topic.name, answer)
                        if failures:
                            log.info("the metadata service answers", extra={"topic": topic.name})
                        failures = 0
                        await asyncio.sleep(topic.pause)
            except (aiohttp.ClientError, TimeoutError, MetadataError, OSError, ValueError) as error:
                if failures == 0:
                    log.warning(
                        "the metadata service cannot be asked (on EC2 a pod needs a hop limit of 2)",
                        extra={"cloud": self._cloud, "topic": topic.name, "detail": _detail(error)},
                    )
                failures += 1
                self._failed("Strange" if isinstance(error, StrangeAnswerError) else "Unheard")
            await asyncio.sleep(RETRY_SECONDS[min(max(failures, 1), len(RETRY_SECONDS)) - 1])

    def _heard(self, topic: str, answer: Answer) -> None:
        known = self._words.get(topic)
        if isinstance(answer, Strange):
            raise StrangeAnswerError("an answer that is none")
        if answer is not None and answer.kind == "Interruption" and answer.deadline is None:
            # Counted from when it was first heard.
            told = known is not None and known.kind == "Interruption"
            answer = known if told else Word("Interruption", self._clock() + NOTICE_SECONDS)
        if answer == known:
            return
        if answer is None:
            del self._words[topic]
            log.info("the machine stays after all", extra={"topic": topic})
        else:
            self._words[topic] = answer
            log.warning("the machine goes away", extra={"topic": topic, "kind": answer.kind})
        self._show()
        self._news.set()

    async def _follow_time(self) -> None:
        """Lets time alone begin the drain."""
        while True:
            self._news.clear()
            at = self._drain_at()
            left = None if at is None or self.draining else max(0.0, at - self._clock())
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                self._show()
                # The wall clock may lag behind the loop's by a tick.
                await asyncio.sleep(0 if self.draining else 0.01)

    def _drain_at(self) -> float | None:
        ends = [word.deadline for word in self._words.values() if word.kind != "Rebalance"]
        return min((at - DRAIN_SECONDS for at in ends if at is not None), default=None)

    def _show(self) -> None:
        word, at = strongest(self._words.values()), self._drain_at()
        report = None
        if word is not None:
            deadline = None if word.deadline is None else round(word.deadline * 1000)
            report = InterruptionReport(kind=word.kind, deadline_ms=deadline, source=self._cloud)
        shown = (report, at is not None and self._clock() >= at)
        if shown != self._shown:
            if shown[1] and not self._shown[1]:
                log.warning("draining: the machine goes", extra={"seconds": DRAIN_SECONDS})
            self._shown = shown
            self._changed()


def _detail(error: Exception) -> str:
    """What went wrong, without a header or a body."""
    return str(error) if isinstance(error, MetadataError) else type(error).__name__
