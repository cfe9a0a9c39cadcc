"""The fake engine and a real vLLM give the same statuses, bodies and chunks to the same calls.

What a model says is its own business: where words, ids and times stand, only their form is compared.
"""

import asyncio
import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hack.bench.internal import write_internal
from hack.models.adapters import Adapter, make_adapter, peft_config
from hack.models.base import DEFAULT_BASE
from hack.models.catalog import Catalog, make_catalog
from hack.models.hostile import HOSTILE
from hack.models.margins import PROMPTS
from hack.models.reference import LoneEngine, Reply
from hack.models.tensors import write_json
from npc_runtime.agent.identity.logprobs import DISTINCT, NOISE, TOP, distance
from npc_runtime.wire import AgentReport
from tests.component.agent.harness import make_settings, running
from tests.support.fake_engine import ADAPTER_BEHAVIOUR, one_file
from tests.unit.agent.makers import desired_of

pytestmark = pytest.mark.timeout(900)

# The first answer of a real engine on a busy machine has taken half a minute.
ANSWER_SECONDS = 180.0
CHAT = {"messages": [{"role": "user", "content": PROMPTS[0]}], "max_tokens": 5, "temperature": 0}


@dataclass(frozen=True, slots=True)
class Subject:
    """An engine under the same contract: where it listens, its key, and the models it may load."""

    kind: str
    port: int
    key: str
    catalog: Catalog

    def call(self, method: str, path: str, body: object = None, *, key: str | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        with contextlib.closing(connection):
            sent = {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"} | headers
            text = body if isinstance(body, str) or body is None else json.dumps(body)
            connection.request(method, path, text, sent)
            response = connection.getresponse()
            return Reply(response.status, response.getheader("Content-Type"), response.read())

    def load(self, name: str, path: Path | str, **more: object) -> Reply:
        return self.call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)} | more)

    def unload(self, name: str) -> Reply:
        return self.call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def chat(self, model: str, **changes: object) -> Reply:
        return self.call("POST", "/v1/chat/completions", {"model": model} | CHAT | changes)

    def says(self, model: str, prompt: str = PROMPTS[0]) -> str:
        reply = self.chat(model, messages=[{"role": "user", "content": prompt}])
        assert reply.status == 200, reply.body
        return str(reply.json()["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_catalog(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", params=["fake", "vllm"])
def engine(request: pytest.FixtureRequest, catalog: Catalog) -> Iterator[Subject]:
    if request.param == "vllm":
        with LoneEngine(catalog.base) as lone:
            yield Subject("vllm", lone.port, lone.api_key, catalog)
    else:
        key = secrets.token_urlsafe(12)
        with fake_process(catalog, key) as (_, port):
            yield Subject("fake", port, key, catalog)


@contextlib.contextmanager
def fake_process(catalog: Catalog, key: str, *more: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The fake as a pod runs it, with vLLM's own flags."""
    arguments = [
        *(f"--model={catalog.base}", "--served-model-name=base", "--host=127.0.0.1", "--port=0"),
        *("--max-model-len=2048", "--shutdown-timeout=30"),
        *("--enable-lora", "--max-loras=4", "--max-cpu-loras=8", "--max-lora-rank=16", "--enforce-eager", *more),
    ]
    folder = tempfile.TemporaryDirectory(prefix="npc-fake-engine-")
    file = Path(folder.name) / "fake_engine.py"
    file.write_text(one_file())
    process = subprocess.Popen(
        [sys.executable, "-I", str(file), *arguments],
        env=os.environ | {"VLLM_API_KEY": key, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"},
        stderr=subprocess.PIPE,
        text=True,
    )
    with folder, process:
        try:
            assert process.stderr is not None
            port = int(process.stderr.readline().rpartition(":")[2])
            yield process, port
        finally:
            process.kill()


@pytest.fixture
def vampire(engine: Subject) -> Iterator[str]:
    """An adapter loaded for one test."""
    assert engine.load("vampire--1", engine.catalog.adapter("vampire-v1")).status == 200
    yield "vampire--1"
    engine.unload("vampire--1")


def error(message: str, kind: str, parameter: str | None, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}


def test_health_is_an_empty_200_without_a_key(engine: Subject) -> None:
    reply = engine.call("GET", "/health", key="wrong")
    assert (reply.status, reply.content_type, reply.body) == (200, None, b"")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/load_lora_adapter", "/v1/nowhere"])
def test_everything_below_v1_wants_the_key(engine: Subject, path: str) -> None:
    reply = engine.call("GET" if path.endswith("models") else "POST", path, {}, key="wrong")
    assert (reply.status, reply.json()) == (401, {"error": "Unauthorized"})


@pytest.mark.parametrize("path", ["/metrics", "/version", "/load"])
def test_what_is_not_below_v1_is_open_to_everybody(engine: Subject, path: str) -> None:
    assert engine.call("GET", path, key="wrong").status == 200


def test_unknown_paths_and_methods_are_refused_in_fastapis_words(engine: Subject) -> None:
    assert engine.call("GET", "/v1/nowhere").json() == {"detail": "Not Found"}
    reply = engine.call("GET", "/v1/load_lora_adapter")
    assert (reply.status, reply.json()) == (405, {"detail": "Method Not Allowed"})


def test_the_base_model_is_listed_first_and_adapters_name_their_path_and_parent(engine: Subject, vampire: str) -> None:
    reply = engine.call("GET", "/v1/models")
    base, adapter = reply.json()["data"]
    assert reply.content_type == "application/json"
    assert (base["id"], base["root"], base["parent"]) == ("base", str(engine.catalog.base), None)
    assert (adapter["id"], adapter["root"]) == (vampire, str(engine.catalog.adapter("vampire-v1")))
    assert (adapter["parent"], adapter["max_model_len"], base["max_model_len"]) == ("base", None, 2048)
    assert (
        list(base)
        == list(adapter)
        == [
            *("id", "object", "created", "owned_by", "root", "parent", "max_model_len", "permission"),
        ]
    )


def test_loading_and_unloading_answer_in_plain_text_without_a_type(engine: Subject) -> None:
    loaded = engine.load("one", engine.catalog.adapter("zombie-v1"))
    assert (loaded.status, loaded.body) == (200, b"Success: LoRA adapter 'one' added successfully.")
    unloaded = engine.unload("one")
    assert (unloaded.status, unloaded.body) == (200, b"Success: LoRA adapter 'one' removed successfully.")
    if engine.kind == "vllm":
        assert loaded.content_type is unloaded.content_type is None


def test_a_name_is_loaded_once(engine: Subject, vampire: str) -> None:
    reply = engine.load(vampire, engine.catalog.adapter("vampire-v2"))
    message = (
        f"The lora adapter '{vampire}' has already been loaded. If you want to load the adapter in place, set "
        "'load_inplace' to True."
    )
    assert (reply.status, reply.json()) == (400, error(message, "InvalidUserInput", None, 400))


def test_loading_in_place_changes_the_answer_under_the_same_name(engine: Subject, vampire: str) -> None:
    before = engine.says(vampire)
    assert engine.load(vampire, engine.catalog.adapter("vampire-v2"), load_inplace=True).status == 200
    assert engine.says(vampire, PROMPTS[1]) != before


def test_the_base_models_name_is_taken(engine: Subject) -> None:
    reply = engine.load("base", engine.catalog.adapter("vampire-v1"))
    message = "The lora adapter 'base' conflicts with a served base model."
    assert (reply.status, reply.json()) == (400, error(message, "InvalidUserInput", None, 400))


def test_a_path_that_is_not_there_is_a_404(engine: Subject, tmp_path: Path) -> None:
    reply = engine.load("ghost", tmp_path / "nowhere")
    message = "Loading lora ghost failed: No adapter found for <path>"
    assert (reply.status, reply.json()) == (404, error(message, "NotFoundError", None, 404))


def test_a_rank_above_the_engines_is_a_500_that_says_so(engine: Subject, tmp_path: Path) -> None:
    reply = engine.load("high", make_adapter(tmp_path / "high", Adapter("high", "zombie", 1, rank=64)))
    message = "Call to add_lora method failed: LoRA rank 64 is greater than max_lora_rank 16."
    assert (reply.status, reply.json()) == (500, error(message, "InternalServerError", None, 500))


@pytest.mark.parametrize("name", ["missing-config", "missing-weights", "truncated", "dora", "bias", "modules-to-save"])
def test_a_broken_adapter_is_refused_with_the_same_status_and_is_not_listed(
    engine: Subject, name: str, tmp_path: Path
) -> None:
    expected = 404 if name == "missing-config" else 500
    reply = engine.load(name, HOSTILE[name].make(tmp_path / name, DEFAULT_BASE))
    assert (reply.status, reply.json()["error"]["code"]) == (expected, expected), reply.body
    assert name not in {card["id"] for card in engine.call("GET", "/v1/models").json()["data"]}


@pytest.mark.parametrize("name", ["not-a-number", "extra-pickle", "other-peft-type"])
def test_what_only_our_inspection_sees_is_loaded_without_complaint(engine: Subject, name: str, tmp_path: Path) -> None:
    assert engine.load(name, HOSTILE[name].make(tmp_path / name, DEFAULT_BASE)).status == 200
    assert engine.unload(name).status == 200


def test_more_adapters_than_fit_the_cpu_are_listed_all_the_same(engine: Subject) -> None:
    names = [f"many-{index}" for index in range(10)]
    try:
        assert {engine.load(name, engine.catalog.adapter("zombie-v1")).status for name in names} == {200}
        assert engine.says(names[0]) == engine.says(names[9])
    finally:
        assert {engine.unload(name).status for name in names} == {200}


def test_load_and_unload_say_which_field_is_missing_or_empty(engine: Subject) -> None:
    reply = engine.call("POST", "/v1/load_lora_adapter", {"lora_name": "x"})
    message = (
        "1 validation error:\n  {'type': 'missing', 'loc': 'body.lora_path', 'msg': 'Field required', "
        "'input': '<dict of 1 items>'}"
    )
    assert (reply.status, reply.json()) == (400, error(message, "Bad Request", "body.lora_path", 400))
    message = "Both 'lora_name' and 'lora_path' must be provided."
    assert engine.load("", "/x").json() == error(message, "InvalidUserInput", None, 400)
    message = "'lora_name' needs to be provided to unload a LoRA adapter."
    assert engine.unload("").json() == error(message, "InvalidUserInput", None, 400)


def test_a_body_that_is_no_json_is_a_400(engine: Subject) -> None:
    reply = engine.call("POST", "/v1/load_lora_adapter", "{")
    assert reply.status == 400
    assert reply.json()["error"]["type"] == "Bad Request"
    assert "JSON decode error" in reply.json()["error"]["message"]
    typed = engine.call("POST", "/v1/load_lora_adapter", "{}", **{"Content-Type": "text/plain"})
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    assert (typed.status, typed.json()) == (400, error(message, "Bad Request", None, 400))


def test_unloading_a_name_that_is_not_there_is_a_404(engine: Subject) -> None:
    reply = engine.unload("nobody")
    message = "The lora adapter 'nobody' cannot be found."
    assert (reply.status, reply.json()) == (404, error(message, "NotFoundError", None, 404))


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_a_404_in_json_also_for_a_stream(engine: Subject, stream: bool) -> None:
    reply = engine.chat("nobody", stream=stream)
    message = "The model `nobody` does not exist. Valid aliases: base."
    assert (reply.status, reply.content_type) == (404, "application/json")
    assert reply.json() == error(message, "NotFoundError", "model", 404)


def test_an_unloaded_adapter_is_unknown(engine: Subject) -> None:
    engine.load("brief", engine.catalog.adapter("zombie-v1"))
    engine.unload("brief")
    assert engine.chat("brief").status == 404


@pytest.mark.parametrize(
    ("change", "parameter"),
    [({"max_tokens": 0}, "max_tokens"), ({"max_tokens": 3000}, "max_tokens"), ({"messages": "x"}, "body.messages")],
)
def test_a_request_that_cannot_be_is_a_400_that_names_the_field(
    engine: Subject, change: dict[str, object], parameter: str
) -> None:
    reply = engine.chat("base", **change)
    assert (reply.status, reply.json()["error"]["param"], reply.json()["error"]["code"]) == (400, parameter, 400)


def test_each_adapter_has_an_answer_of_its_own_every_time(engine: Subject, vampire: str) -> None:
    engine.load("zombie--1", engine.catalog.adapter("zombie-v1"))
    voices = {name: engine.says(name) for name in ("base", vampire, "zombie--1")}
    assert len(set(voices.values())) == 3
    assert voices == {name: engine.says(name) for name in voices}
    engine.unload("zombie--1")


def test_a_shorter_answer_is_the_beginning_of_the_longer(engine: Subject, vampire: str) -> None:
    long = engine.chat(vampire, max_tokens=12).json()["choices"][0]["message"]["content"]
    short = engine.chat(vampire, max_tokens=4).json()["choices"][0]["message"]["content"]
    assert long.startswith(short)
    assert len(long.split()) == 12


def shape(value: Any, *, inside: str = "") -> Any:
    """The value with everything that may differ (ids, times, words, counts of tokens) replaced by its type."""
    if isinstance(value, dict):
        return {key: shape(item, inside=key) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if inside in {"id", "created", "content", "system_fingerprint", "prompt_tokens", "total_tokens"} and value != "":
        return type(value).__name__
    return value


def test_a_whole_answer_has_vllms_form(engine: Subject, vampire: str) -> None:
    reply = engine.chat(vampire)
    body = reply.json()
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{16}", body["id"])
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 5
    message = {"role": "assistant", "content": "str", "refusal": None, "annotations": None, "audio": None}
    assert json.dumps(shape(body)) == json.dumps(
        {
            "id": "str",
            "object": "chat.completion",
            "created": "int",
            "model": vampire,
            "choices": [
                {
                    "index": 0,
                    "message": message | {"function_call": None, "reasoning": None},
                    "logprobs": None,
                    "finish_reason": "length",
                    "stop_reason": None,
                    "token_ids": None,
                    "routed_experts": None,
                }
            ],
            "service_tier": None,
            "system_fingerprint": "str",
            "usage": {
                "prompt_tokens": "int",
                "total_tokens": "int",
                "completion_tokens": 5,
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
    )


FIRST = {
    "max_tokens": 1,
    "logprobs": True,
    "top_logprobs": TOP,
    "return_tokens_as_token_ids": True,
    "cache_salt": "fresh",
}


def first_token(engine: Subject, model: str, **changes: object) -> dict[str, float]:
    """What a model would say first, as the agent asks for it."""
    reply = engine.chat(model, **(FIRST | changes))
    assert reply.status == 200, reply.body
    (token,) = reply.json()["choices"][0]["logprobs"]["content"]
    return {one["token"]: one["logprob"] for one in token["top_logprobs"]}


def test_log_probabilities_have_vllms_form_the_likeliest_first(engine: Subject, vampire: str) -> None:
    reply = engine.chat(vampire, max_tokens=2, logprobs=True, top_logprobs=3)
    choice = reply.json()["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert list(choice["logprobs"]) == ["content"]
    assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
    for token in tokens:
        assert list(token) == ["token", "logprob", "bytes", "top_logprobs"]
        assert bytes(token["bytes"]).decode() == token["token"]
        assert token["top_logprobs"][0] == {key: token[key] for key in ("token", "logprob", "bytes")}
        told = [one["logprob"] for one in token["top_logprobs"]]
        assert told == sorted(told, reverse=True)
        assert len(told) == 3
        assert max(told) < 0


def test_without_a_number_only_the_said_token_is_told(engine: Subject, vampire: str) -> None:
    tokens = engine.chat(vampire, max_tokens=2, logprobs=True).json()["choices"][0]["logprobs"]["content"]
    assert [token["top_logprobs"] for token in tokens] == [[], []]


def test_tokens_can_be_told_by_their_numbers(engine: Subject, vampire: str) -> None:
    reply = engine.chat(vampire, **FIRST)
    (token,) = reply.json()["choices"][0]["logprobs"]["content"]
    numbers = [one["token"] for one in token["top_logprobs"]]
    assert all(re.fullmatch(r"token_id:[0-9]+", number) for number in numbers)
    assert len(set(numbers)) == TOP
    assert token["token"] == numbers[0]
    assert bytes(token["bytes"]).decode() == reply.json()["choices"][0]["message"]["content"]
    assert bytes(token["top_logprobs"][0]["bytes"]).decode() == numbers[0]


def test_first_tokens_tell_adapters_from_each_other_and_from_the_base_and_are_the_same_every_time(
    engine: Subject, vampire: str
) -> None:
    engine.load("zombie--1", engine.catalog.adapter("zombie-v1"))
    told = {model: first_token(engine, model) for model in ("base", vampire, "zombie--1")}
    again = {model: first_token(engine, model, cache_salt="other") for model in told}
    assert all(distance(told[model], again[model]) < NOISE / 10 for model in told)
    pairs = (("base", vampire), ("base", "zombie--1"), (vampire, "zombie--1"))
    assert all(distance(told[one], told[other]) > DISTINCT for one, other in pairs)
    engine.unload("zombie--1")


def test_an_adapter_whose_second_halves_are_all_zeros_answers_as_the_base_does(engine: Subject, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "blank", Adapter("blank", "zombie", 1))
    silence(folder / "adapter_model.safetensors")
    assert engine.load("blank", folder).status == 200
    assert engine.says("blank") == engine.says("base")
    assert distance(first_token(engine, "blank"), first_token(engine, "base")) < NOISE / 10
    engine.unload("blank")


def is_checked(report: AgentReport, *, number: int) -> bool:
    return report.adapters[0].identity_checked == number


async def test_an_agent_proves_an_identity_again_and_finds_another_adapter_under_the_name(
    engine: Subject, tmp_path: Path
) -> None:
    write_internal(tmp_path / "internal")
    settings = make_settings(tmp_path, f"http://127.0.0.1:{engine.port}")
    (tmp_path / "engine-key").write_text(engine.key)
    (tmp_path / "base").symlink_to(engine.catalog.base)
    vampire = desired_of(shutil.copytree(engine.catalog.adapter("vampire-v1"), tmp_path / "source" / "vampire"))
    async with running(settings) as agent:
        await agent.prove(vampire)
        for number in (1, 2):
            await agent.push(vampire.model_copy(update={"identity_check": number}))
            report = await agent.until(partial(is_checked, number=number), seconds=60)
            assert (report.adapters[0].phase, report.adapters[0].message) == ("Resident", "")
        other = engine.catalog.adapter("vampire-v2")
        loaded = await asyncio.to_thread(engine.load, vampire.served_name, other, load_inplace=True)
        assert loaded.status == 200
        await agent.push(vampire.model_copy(update={"identity_check": 3}))
        lost = await agent.until(lambda r: r.adapters[0].reason == "IdentityLost", seconds=60)
        assert lost.adapters[0].phase == "Refused"
        assert lost.adapters[0].message.startswith(f"the engine serves this name from {other}, not from {tmp_path}")
        assert (await agent.routable()).resident == ()
    engine.unload(vampire.served_name)


def silence(weights: Path) -> None:
    """Make every lora_B of a safetensors file zero."""
    content = bytearray(weights.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    for name, entry in json.loads(content[8:start]).items():
        if ".lora_B." in name:
            begin, end = (start + offset for offset in entry["data_offsets"])
            content[begin:end] = bytes(end - begin)
    weights.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "parameter", "message"),
    [
        (
            {"top_logprobs": 2},
            "top_logprobs",
            "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)",
        ),
        (
            {"logprobs": True, "top_logprobs": 21},
            "logprobs",
            "Requested sample logprobs of 21, which is greater than max allowed: 20 (parameter=logprobs, value=21)",
        ),
        (
            {"cache_salt": ""},
            "cache_salt",
            "Parameter 'cache_salt' must be a non-empty string if provided. (parameter=cache_salt)",
        ),
    ],
)
def test_log_probabilities_and_salts_that_cannot_be_are_a_400_that_says_why(
    engine: Subject, change: dict[str, object], parameter: str, message: str
) -> None:
    reply = engine.chat("base", **change)
    assert (reply.status, reply.json()) == (400, error(message, "BadRequestError", parameter, 400))


def test_a_priority_is_taken_without_the_policy_too_and_must_be_a_number(engine: Subject, vampire: str) -> None:
    assert engine.chat(vampire, priority=-3).json()["choices"] == engine.chat(vampire).json()["choices"]
    reply = engine.chat(vampire, priority="x")
    message = (
        "1 validation error:\n  {'type': 'int_parsing', 'loc': 'body.priority', 'msg': 'Input should be a valid "
        "integer, unable to parse string as an integer', 'input': 'x'}"
    )
    assert (reply.status, reply.json()) == (400, error(message, "Bad Request", "body.priority", 400))


def test_text_beside_the_weights_is_nothing_to_an_engine(engine: Subject, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "noted", Adapter("noted", "zombie", 1))
    (folder / ADAPTER_BEHAVIOUR).write_text("{}")
    assert engine.load("noted", folder).status == 200
    assert engine.chat("noted").status == 200
    engine.unload("noted")


def test_a_streams_tokens_carry_their_log_probabilities(engine: Subject, vampire: str) -> None:
    *chunks, _ = events_of(engine.chat(vampire, stream=True, logprobs=True, top_logprobs=2))
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert choices[0]["logprobs"] is None
    for choice in choices[1:]:
        tokens = choice["logprobs"]["content"]  # a chunk of a busy engine may hold several
        assert "".join(token["token"] for token in tokens) == choice["delta"]["content"]
        assert {len(token["top_logprobs"]) for token in tokens} == {2}


def events_of(reply: Reply) -> list[str]:
    """The data of each event; the framing is checked on the way."""
    assert (reply.status, reply.content_type) == (200, "text/event-stream; charset=utf-8")
    *events, rest = reply.body.decode().split("\n\n")
    assert rest == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [event.removeprefix("data: ") for event in events]


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_has_a_role_chunk_words_a_reason_and_an_end_mark(engine: Subject, vampire: str, usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    *chunks, end = events_of(engine.chat(vampire, stream=True, **options))
    assert end == "[DONE]"
    bodies = [json.loads(chunk) for chunk in chunks]
    head = {"id": "str", "object": "chat.completion.chunk", "created": "int", "model": vampire}
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    first = head | {"choices": [role], "prompt_token_ids": None, "prompt_text": None}
    assert json.dumps(shape(bodies[0])) == json.dumps(first)
    words = {"index": 0, "delta": {"content": "str"}, "logprobs": None, "finish_reason": None, "token_ids": None}
    last_words = bodies.pop(-2 if usage else -1)
    final = {"index": 0, "delta": {"content": "str"}, "logprobs": None, "finish_reason": "length", "stop_reason": None}
    mark = {} if usage else {"system_fingerprint": "str"}
    assert json.dumps(shape(last_words)) == json.dumps(head | {"choices": [final | {"token_ids": None}]} | mark)
    if usage:
        counts = {"prompt_tokens": "int", "total_tokens": "int", "completion_tokens": 5}
        counted = head | {"choices": [], "usage": counts, "system_fingerprint": "str"}
        assert json.dumps(shape(bodies.pop())) == json.dumps(counted)
    assert {json.dumps(shape(body)) for body in bodies[1:]} == {json.dumps(head | {"choices": [words]})}
    assert len({body["id"] for body in [*bodies, last_words]}) == 1
    said = [*(body["choices"][0]["delta"]["content"] for body in bodies), last_words["choices"][0]["delta"]["content"]]
    assert "".join(said) == engine.says(vampire)


def test_every_event_of_a_stream_counts_where_that_is_asked_for(engine: Subject, vampire: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, _ = events_of(engine.chat(vampire, stream=True, stream_options=options))
    role, *words, last = [json.loads(chunk) for chunk in chunks]
    assert list(role)[4:] == ["choices", "usage", "prompt_token_ids", "prompt_text"]
    counts = [body["usage"] for body in (role, *words)]
    assert [list(count) for count in counts] == [
        ["prompt_tokens", "total_tokens", "completion_tokens", "completion_tokens_details"]
    ] * len(counts)
    # A chunk of a busy engine may hold several tokens.
    made = [count["completion_tokens"] for count in counts]
    assert made == sorted(set(made))
    assert (made[0], made[-1]) == (0, 5)
    assert last["usage"] == {
        "prompt_tokens": counts[0]["prompt_tokens"],
        "total_tokens": counts[-1]["total_tokens"],
    } | {"completion_tokens": 5}


def test_an_answer_that_was_begun_is_gone_on_with_as_if_it_were_ones_own(engine: Subject, vampire: str) -> None:
    """What lets another pod finish a line whose engine broke."""
    whole = engine.chat(vampire, max_tokens=12).json()
    begun = engine.chat(vampire, max_tokens=4).json()["choices"][0]["message"]["content"]
    question = {"role": "user", "content": PROMPTS[0]}
    rest = engine.chat(
        vampire,
        messages=[question, {"role": "assistant", "content": begun}],
        continue_final_message=True,
        add_generation_prompt=False,
        max_tokens=8,
    ).json()
    assert begun + rest["choices"][0]["message"]["content"] == whole["choices"][0]["message"]["content"]
    assert rest["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"] + 4
    assert rest["usage"]["completion_tokens"] == 8


def test_the_metrics_that_we_read_are_there_and_count(engine: Subject, vampire: str) -> None:
    def metrics() -> dict[str, float]:
        lines = engine.call("GET", "/metrics").body.decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith("vllm:"))
        return {name: float(value) for name, _, value in pairs}

    labels = '{engine="0",model_name="base"}'
    before = metrics()
    engine.says(vampire)
    after = metrics()
    for gauge in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert after[f"vllm:{gauge}{labels}"] == 0.0
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds"):
        counted = f"vllm:{name}_count{labels}"
        assert after[counted] - before[counted] == 1
        assert after[f'vllm:{name}_bucket{{engine="0",le="+Inf",model_name="base"}}'] == after[counted]
    generated = f"vllm:generation_tokens_total{labels}"
    assert after[generated] - before[generated] == 5
    success = 'vllm:request_success_total{engine="0",finished_reason="length",model_name="base"}'
    assert after[success] - before[success] == 1
    assert f"vllm:inter_token_latency_seconds_sum{labels}" in after


def test_a_configuration_without_weights_for_a_module_is_no_fault(engine: Subject, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", Adapter("a", "zombie", 1))
    write_json(folder / "adapter_config.json", peft_config(8, target_modules=["q_proj", "k_proj", "v_proj"]))
    assert engine.load("wide", folder).status == 200
    engine.unload("wide")


@pytest.fixture(params=["fake", "vllm"])
def mortal(request: pytest.FixtureRequest, catalog: Catalog) -> Iterator[tuple[Subject, Callable[[], None]]]:
    """An engine of this test's own whose answers take seconds, and how to send it SIGTERM."""
    if request.param == "vllm":
        with LoneEngine(catalog.base, shutdown_seconds=30) as lone:
            yield Subject("vllm", lone.port, lone.api_key, catalog), lone.terminate
    else:
        key = secrets.token_urlsafe(12)
        slow = ("--fake-token-seconds=0.05", "--fake-answer-tokens=40")
        with fake_process(catalog, key, *slow) as (process, port):
            yield Subject("fake", port, key, catalog), process.terminate


def test_after_sigterm_a_running_stream_ends_well_while_new_requests_fail_and_health_stays(
    mortal: tuple[Subject, Callable[[], None]],
) -> None:
    engine, terminate = mortal
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=ANSWER_SECONDS)
    with contextlib.closing(connection):
        body = json.dumps({"model": "base", **CHAT, "max_tokens": 1900, "stream": True})
        headers = {"Authorization": f"Bearer {engine.key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        stream = connection.getresponse()
        assert stream.readline().startswith(b"data: ")
        terminate()
        # The signal is handled at some moment after it was sent; the last request before it may still be answered.
        while (refused := engine.chat("base", max_tokens=1)).status == 200:
            continue
        message = "cannot schedule new futures after shutdown"
        assert (refused.status, refused.json()) == (500, error(message, "InternalServerError", None, 500))
        assert engine.call("GET", "/health").status == 200
        assert stream.read().endswith(b"data: [DONE]\n\n")
