"""How one chat request is answered: token by token in time, whole or as a stream, well or badly."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.support.fake_engine.behaviour import Behaviour
from tests.support.fake_engine.bodies import break_off, compact, json_response
from tests.support.fake_engine.chat import (
    FINGERPRINT,
    Chat,
    chunk_of,
    logprobs_of,
    prompt_tokens,
    role_choice,
    token_choice,
    usage_of,
    whole_answer,
)
from tests.support.fake_engine.metrics import Metrics
from tests.support.fake_engine.words import WORDS, answer_of, candidates_of


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer, with what is told of it if that is asked for."""

    text: str
    logprobs: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Answering:
    """One answer. Its voice is fixed at the start: an unloaded adapter finishes what it runs. `behaviour` and `changed`
    are asked anew where it hangs or stalls, so that it can be let go.
    """

    chat: Chat
    voice: str
    behaviour: Callable[[], Behaviour]
    changed: Callable[[], Awaitable[None]]
    metrics: Metrics
    started: float

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Answers as the request wants it."""
        return await (self._stream(request) if self.chat.stream else self._whole(request))

    async def _tokens(self) -> AsyncIterator[Token]:
        behaviour = self.behaviour()
        words = self._words()
        loud = behaviour.logprob_noise
        noise = [random.uniform(-loud, loud) for _ in WORDS] if loud else []
        await asyncio.sleep(behaviour.first_token_seconds)
        for index, word in enumerate(words):
            if index == 0:
                self.metrics.first_token(time.monotonic() - self.started)
            else:
                await asyncio.sleep(behaviour.token_seconds)
                self.metrics.next_token(behaviour.token_seconds)
            while self.behaviour().stall_after_tokens == index:
                await self.changed()
            told = None
            if self.chat.logprobs is not None:
                told = logprobs_of(self.chat, candidates_of(self.voice, self.chat.messages, index, word, noise))
            yield Token(word, told)
        self.metrics.tokens(prompt_tokens(self.chat.messages), len(words))

    def _words(self) -> list[str]:
        """The answer's tokens; an empty answer is one token without text."""
        behaviour = self.behaviour()
        text = behaviour.answer
        if text is None:
            text = answer_of(self.voice, self.chat.question, behaviour.answer_tokens)
        words = [f" {word}" for word in text.split()][len(self.chat.begun.split()) :] or [""]
        return words[: self.chat.max_tokens]

    def _finish_reason(self) -> str:
        behaviour = self.behaviour()
        whole = behaviour.answer_tokens if behaviour.answer is None else len(behaviour.answer.split())
        return self.chat.finish_reason(whole - len(self.chat.begun.split()))

    async def _whole(self, request: web.Request) -> web.StreamResponse:
        tokens: list[Token] = []
        async for token in self._tokens():
            if len(tokens) == self.behaviour().break_after_tokens:
                return break_off(request, web.Response())
            tokens.append(token)
        told = [token.logprobs for token in tokens if token.logprobs is not None]
        return json_response(whole_answer(self.chat, [token.text for token in tokens], told, self._finish_reason()))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        response.enable_chunked_encoding()
        total, sent = len(self._words()), 0

        async def send(choices: list[dict[str, Any]], **more: Any) -> None:
            if choices and self.chat.counts_always:
                more = {"usage": usage_of(self.chat, sent) | {"completion_tokens_details": None}} | more
            await response.write(b"data: " + compact(chunk_of(self.chat, choices, more)) + b"\n\n")

        async for token in self._tokens():
            if sent == 0:
                await response.prepare(request)
                await send([role_choice()], prompt_token_ids=None, prompt_text=None)
            if sent == self.behaviour().break_after_tokens:
                return break_off(request, response)
            if sent == self.behaviour().truncate_after_tokens:
                await response.write_eof()
                return response
            sent += 1
            choice = token_choice(token.text, token.logprobs)
            if sent < total:
                await send([choice | {"token_ids": None}])
                continue
            choice |= {"finish_reason": self._finish_reason(), "stop_reason": None, "token_ids": None}
            await send([choice], **({} if self.chat.include_usage else {"system_fingerprint": FINGERPRINT}))
        if self.chat.include_usage:
            await send([], usage=usage_of(self.chat, sent), system_fingerprint=FINGERPRINT)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response
