"""The test model in numpy float32: an independent account of what a real engine must answer, and by what margin.

It is how seeds are chosen and how the unit tests check the margins without an engine; the contract tests compare it
with the real one.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hack.models.tensors import read_safetensors
from hack.models.tokenizer import byte_characters, vocabulary

Floats = npt.NDArray[np.float32]

_PIECES = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
"""The split of byte-level BPE before the vocabulary is asked (the pattern of GPT-2)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A greedy answer, and the smallest lead (in logits) of a chosen token over the next best."""

    text: str
    tokens: tuple[int, ...]
    margin: float


def encode_chat(messages: Sequence[tuple[str, str]]) -> list[int]:
    """Token ids of (role, content) pairs under the chat template, with the mark that asks for an answer."""
    vocab = vocabulary()
    ids = [vocab["<|bos|>"]]
    for role, content in messages:
        ids += [vocab[f"<|{role}|>"], *encode_text(content), vocab["<|end|>"]]
    return [*ids, vocab["<|assistant|>"]]


def decode(tokens: Sequence[int]) -> str:
    """The text of tokens; chat marks are left out, as an engine leaves them out."""
    texts = list(vocabulary())
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    raw = bytes(byte_of[character] for token in tokens if token > 6 for character in texts[token])
    return raw.decode("utf-8", errors="replace")


class Model:
    """A base model read from its directory; `adapter` merges one adapter's weights into a copy."""

    def __init__(self, directory: Path, adapter: Path | None = None) -> None:
        self._config = json.loads((directory / "config.json").read_text())
        self._weights = _arrays(directory / "model.safetensors")
        if adapter is not None:
            self._merge(adapter)

    def answer(self, messages: Sequence[tuple[str, str]], *, max_tokens: int, least_margin: float = 0.0) -> Answer:
        """Greedy answer to a chat, cut short at the first token whose lead is below `least_margin` logits.

        The whole sequence is computed again for each token, which is fast enough at this size.
        """
        ids = encode_chat(messages)
        start, margin = len(ids), float("inf")
        while len(ids) - start < max_tokens and margin >= least_margin:
            logits = self._logits(ids)[-1]
            second, first = np.partition(logits, -2)[-2:]
            margin = min(margin, float(first - second))
            ids.append(int(logits.argmax()))
        return Answer(decode(ids[start:]), tuple(ids[start:]), margin)

    def lead(self, messages: Sequence[tuple[str, str]], answer: str) -> float:
        """By how many logits each token of `answer` leads every other token, at least; negative if it is not the greedy
        answer.

        One pass over prompt and answer: if every token is the best one after those before it, the answer is the greedy
        one.
        """
        prompt, tokens = encode_chat(messages), encode_text(answer)
        logits = self._logits([*prompt, *tokens])[len(prompt) - 1 : -1]
        rows = np.arange(len(tokens))
        chosen = logits[rows, tokens]
        logits[rows, tokens] = -np.inf
        return float((chosen - logits.max(axis=1)).min())

    def _merge(self, adapter: Path) -> None:
        config = json.loads((adapter / "adapter_config.json").read_text())
        scale = np.float32(config["lora_alpha"] / config["r"])
        pairs = _arrays(adapter / "adapter_model.safetensors")
        for name, reads in pairs.items():
            if name.endswith(".lora_A.weight"):
                target = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
                self._weights[target] = self._weights[target] + scale * (
                    pairs[name.replace("lora_A", "lora_B")] @ reads
                )

    def _logits(self, ids: Sequence[int]) -> Floats:
        weights = self._weights
        state = weights["model.embed_tokens.weight"][list(ids)]
        for layer in range(self._config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}"
            state = state + self._attend(self._norm(state, f"{prefix}.input_layernorm.weight"), f"{prefix}.self_attn")
            inner = self._norm(state, f"{prefix}.post_attention_layernorm.weight")
            gate = inner @ weights[f"{prefix}.mlp.gate_proj.weight"].T
            gated = gate / (1 + np.exp(-gate)) * (inner @ weights[f"{prefix}.mlp.up_proj.weight"].T)
            state = state + gated @ weights[f"{prefix}.mlp.down_proj.weight"].T
        logits: Floats = self._norm(state, "model.norm.weight") @ weights["lm_head.weight"].T
        return logits

    def _norm(self, state: Floats, name: str) -> Floats:
        mean = np.mean(state * state, axis=-1, keepdims=True)
        normed: Floats = state / np.sqrt(mean + np.float32(self._config["rms_norm_eps"])) * self._weights[name]
        return normed

    def _attend(self, state: Floats, prefix: str) -> Floats:
        heads, kv_heads = self._config["num_attention_heads"], self._config["num_key_value_heads"]
        size, length = self._config["head_dim"], len(state)
        split = {
            name: (state @ self._weights[f"{prefix}.{name}_proj.weight"].T).reshape(length, count, size).swapaxes(0, 1)
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        }
        queries = self._rotate(split["q"])
        keys = np.repeat(self._rotate(split["k"]), heads // kv_heads, axis=0)
        values = np.repeat(split["v"], heads // kv_heads, axis=0)
        scores = queries @ keys.swapaxes(1, 2) * np.float32(size**-0.5)
        scores = np.where(np.tri(length, dtype=bool), scores, np.float32(-np.inf))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ values
        attended: Floats = (
            mixed.swapaxes(0, 1).reshape(length, heads * size) @ self._weights[f"{prefix}.o_proj.weight"].T
        )
        return attended

    def _rotate(self, state: Floats) -> Floats:
        length, size = state.shape[1], state.shape[2]
        frequencies = self._config["rope_theta"] ** (-np.arange(0, size, 2, dtype=np.float32) / size)
        angles = np.outer(np.arange(length, dtype=np.float32), frequencies).astype(np.float32)
        cosine, sine = np.cos(angles), np.sin(angles)
        first, second = state[..., : size // 2], state[..., size // 2 :]
        rotated: Floats = np.concatenate((first * cosine - second * sine, second * cosine + first * sine), axis=-1)
        return rotated


def _arrays(path: Path) -> dict[str, Floats]:
    return {
        name: np.frombuffer(tensor.data, dtype="<f4").astype(np.float32).reshape(tensor.shape)
        for name, tensor in read_safetensors(path).items()
    }


def encode_text(text: str) -> list[int]:
    """Token ids of plain text: whole words of the vocabulary where there are any, else bytes."""
    characters, vocab = byte_characters(), vocabulary()
    ids: list[int] = []
    for piece in _PIECES.findall(text):
        written = "".join(characters[byte] for byte in piece.encode())
        ids += [vocab[written]] if written in vocab else [vocab[character] for character in written]
    return ids
