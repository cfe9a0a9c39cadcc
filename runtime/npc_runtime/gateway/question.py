"""What an engine is asked for one line: the caller's own request, with what each level changes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npc_runtime.gateway import chat
from npc_runtime.gateway.levels import Ladder, Rung
from npc_runtime.gateway.retelling import Retelling
from npc_runtime.gateway.table import Target


class Question:
    """One line's request, written anew for each digest that is asked."""

    __slots__ = ("_cache_salt", "_trace", "can_read", "payload", "retelling")

    def __init__(
        self,
        payload: dict[str, Any],
        trace: bytes,
        cache_salt: str | None,
        *,
        in_sentences: bool = False,
        can_read: Callable[[bytes], bool] | None = None,
    ) -> None:
        """`trace` is whole header lines; `cache_salt` is None where the caller's key has none; `in_sentences`: another
        pod may go on where one broke in the middle; `can_read` says whether a whole answer is one."""
        self.can_read = can_read
        self.payload = payload
        """As it came, but for what engines are told beside the line."""
        self.retelling = Retelling(payload) if in_sentences else None
        self._trace = trace
        self._cache_salt = cache_salt

    @property
    def wants_stream(self) -> bool:
        """Whether the caller hears the answer as it is made."""
        return bool(self.payload.get("stream"))

    def check(self) -> None:
        """Judge the body where there is no engine that it could be written for.

        Raises:
            Refused: the body cannot be written (400).

        """
        chat.write_completion({**self.payload}, "")

    def write(self, ladder: Ladder, rung: Rung, target: Target, payload: dict[str, Any] | None = None) -> bytes:
        """The rest of the head, after the pod's own part, and the body for this level and digest. `payload` is asked in
        place of the line's own.

        Raises:
            Refused: the body cannot be written (400).

        """
        payload = self.payload if payload is None else payload
        if self.retelling is not None:
            payload = self.retelling.asking(payload)
        priority = ladder.priority if rung.routes.prioritised else None
        chat.set_engine_fields(payload, priority=priority, cache_salt=self._cache_salt)
        if rung.alias is None:
            payload = {**payload, "messages": [ladder.prompt, *payload["messages"]]}
        body = chat.write_completion(payload, target.served_name)
        return b"%bContent-Length: %d\r\n\r\n%b" % (self._trace, len(body), body)
