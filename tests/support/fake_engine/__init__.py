"""A fast stand-in for vLLM's OpenAI server: the same calls, the same statuses and bodies, no weights.

It answers each adapter with words drawn from the adapter's own bytes, so that a test can tell which bytes were loaded
under which name, and it can be slow, refuse, hang or break on demand: as a whole (`engine.behave`), or under one
adapter whose folder says so (`fake_behaviour.json`). tests/contract/test_fake_engine.py holds it to the real engine.

In a test, `async with FakeEngine() as engine: ... engine.url`. As a process (`python -m tests.support.fake_engine`) it
takes vLLM's own flags (and ignores those it has no use for) plus `--fake-...`. `one_file()` is the same as one source
file, which needs Python 3.11 and aiohttp only: a pod runs it from a ConfigMap, in the fleet's image. `GET /fake` tells
what it was asked, `PATCH /fake` changes how it behaves.
"""

from tests.support.fake_engine.behaviour import ADAPTER_BEHAVIOUR, Behaviour, Settings
from tests.support.fake_engine.engine import Call, FakeEngine
from tests.support.fake_engine.loading import Loaded
from tests.support.fake_engine.one_file import one_file
from tests.support.fake_engine.words import BASE_VOICE, WORDS, answer_of

__all__ = [
    "ADAPTER_BEHAVIOUR",
    "BASE_VOICE",
    "WORDS",
    "Behaviour",
    "Call",
    "FakeEngine",
    "Loaded",
    "Settings",
    "answer_of",
    "one_file",
]
