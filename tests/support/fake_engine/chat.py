"""One chat request, and the bodies of its answer in vLLM's form."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.fake_engine.behaviour import Settings
from tests.support.fake_engine.bodies import error_response, invalid
from tests.support.fake_engine.words import Candidate

FINGERPRINT = "vllm-0.32.0-fake"


@dataclass(frozen=True, slots=True)
class Chat:
    """A request, read once."""

    model: str
    body: Mapping[str, Any]
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex[:16]}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def messages(self) -> Any:
        return self.body["messages"]

    @property
    def last_message(self) -> object:
        """What was said last."""
        return self.messages[-1].get("content") if self.messages else None

    @property
    def max_tokens(self) -> int | None:
        limit = self.body.get("max_completion_tokens", self.body.get("max_tokens"))
        return None if limit is None else int(limit)

    @property
    def priority(self) -> int:
        asked = self.body.get("priority")
        return asked if isinstance(asked, int) else 0

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def include_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    @property
    def counts_always(self) -> bool:
        """Whether every event of a stream tells how many tokens there were so far."""
        return self.include_usage and bool(self.body["stream_options"].get("continuous_usage_stats"))

    @property
    def begun(self) -> str:
        """The beginning of the answer, where the request brings it."""
        return str(self.messages[-1]["content"]) if self.body.get("continue_final_message") else ""

    @property
    def question(self) -> Any:
        """What is answered."""
        return self.messages[:-1] if self.begun else self.messages

    @property
    def logprobs(self) -> int | None:
        """How many candidates to tell for each token; None when nothing is told."""
        return int(self.body.get("top_logprobs") or 0) if self.body.get("logprobs") else None

    def finish_reason(self, whole: int) -> str:
        """Why an answer of so many tokens ends."""
        return "length" if self.max_tokens is not None and self.max_tokens <= whole else "stop"


def refusal_of(chat: Chat, settings: Settings) -> web.Response | None:
    """The 400 for what cannot be."""
    limit, longest = chat.max_tokens, settings.max_model_len
    if not isinstance(chat.messages, list):
        return invalid(("list_type", "Input should be a valid list", repr(chat.messages)), "body.messages")
    if limit is not None and limit < 1:
        message = f"max_tokens must be at least 1, got {limit}. (parameter=max_tokens, value={limit})"
        return error_response(message, "BadRequestError", "max_tokens", 400)
    if limit is not None and limit > longest:
        message = (
            f"max_tokens={limit} cannot be greater than max_model_len={longest}. Please request fewer output "
            f"tokens. (parameter=max_tokens, value={limit})"
        )
        return error_response(message, "BadRequestError", "max_tokens", 400)
    if not isinstance(chat.body.get("priority", 0), int):
        text = "Input should be a valid integer, unable to parse string as an integer"
        return invalid(("int_parsing", text, repr(chat.body["priority"])), "body.priority")
    if chat.body.get("cache_salt") == "":
        message = "Parameter 'cache_salt' must be a non-empty string if provided. (parameter=cache_salt)"
        return error_response(message, "BadRequestError", "cache_salt", 400)
    if chat.body.get("top_logprobs") and chat.logprobs is None:
        message = "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)"
        return error_response(message, "BadRequestError", "top_logprobs", 400)
    if (told := chat.logprobs or 0) > settings.max_logprobs:
        message = (
            f"Requested sample logprobs of {told}, which is greater than max allowed: {settings.max_logprobs} "
            f"(parameter=logprobs, value={told})"
        )
        return error_response(message, "BadRequestError", "logprobs", 400)
    return None


def whole_answer(
    chat: Chat, tokens: Sequence[str], logprobs: Sequence[Mapping[str, Any]], finish_reason: str
) -> dict[str, Any]:
    """A chat completion."""
    return {
        "id": chat.id,
        "object": "chat.completion",
        "created": chat.created,
        "model": chat.model,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "".join(tokens),
                    "refusal": None,
                    "annotations": None,
                    "audio": None,
                    "function_call": None,
                    "reasoning": None,
                },
                "logprobs": None if chat.logprobs is None else {"content": list(logprobs)},
                "finish_reason": finish_reason,
                "stop_reason": None,
                "token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": usage_of(chat, len(tokens)) | {"prompt_tokens_details": None, "completion_tokens_details": None},
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def chunk_of(chat: Chat, choices: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> dict[str, Any]:
    """One event of a streamed answer."""
    head = {"id": chat.id, "object": "chat.completion.chunk", "created": chat.created, "model": chat.model}
    return head | {"choices": list(choices)} | dict(more)


def role_choice() -> dict[str, Any]:
    """What the first event says."""
    delta = {"role": "assistant", "content": ""}
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}


def token_choice(token: str, logprobs: Mapping[str, Any] | None) -> dict[str, Any]:
    """One token; the last one's reason is the caller's to add."""
    told = None if logprobs is None else {"content": [logprobs]}
    return {"index": 0, "delta": {"content": token}, "logprobs": told, "finish_reason": None}


def logprobs_of(chat: Chat, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """What is told of one token, of which `candidates` could have come, the said one first."""
    by_number = bool(chat.body.get("return_tokens_as_token_ids"))

    def told(candidate: Candidate) -> dict[str, Any]:
        token = f"token_id:{candidate.number}" if by_number else candidate.token
        return {"token": token, "logprob": candidate.logprob, "bytes": list(token.encode())}

    said = told(candidates[0]) | {"bytes": list(candidates[0].token.encode())}
    return said | {"top_logprobs": [told(candidate) for candidate in candidates[: chat.logprobs or 0]]}


def prompt_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """The length of a prompt, near enough."""
    return 2 + sum(2 + len(str(message.get("content")).split()) for message in messages)


def usage_of(chat: Chat, generated: int) -> dict[str, Any]:
    """The count of tokens."""
    prompt = prompt_tokens(chat.question) + len(chat.begun.split())
    return {"prompt_tokens": prompt, "total_tokens": prompt + generated, "completion_tokens": generated}
