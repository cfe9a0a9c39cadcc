"""The seeded base model: a two-layer Llama, small enough to start in seconds, with answers of its own.

Random weights alone speak in byte soup. A few directions make words of it, without changing that every weight is
seeded: all embeddings share two constant components, bytes and chat marks are scored against one of them, and each
theme's words are scored along a direction of their own, into which an adapter can push.
"""

from dataclasses import dataclass
from pathlib import Path

from hack.models.tensors import Tensor, make_directory, seeded_signs, uniform, write_json, write_safetensors
from hack.models.tokenizer import theme_of_tokens, vocabulary, write_tokenizer

COMMON = "common"
"""The theme of the bare model, and a direction that all embeddings share."""

_SPEECH = "speech"
"""Another shared direction, which adapters leave alone: bytes and chat marks are scored against it."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The shape of a base model and the seed of its weights."""

    seed: str = "npc-base-14"
    hidden: int = 256
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 512
    max_positions: int = 2048

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def kv_size(self) -> int:
        return self.kv_heads * self.head_size

    def config(self) -> dict[str, object]:
        """config.json as transformers and vLLM read it."""
        marks = vocabulary()
        return {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "bos_token_id": marks["<|bos|>"],
            "eos_token_id": marks["<|eos|>"],
            "pad_token_id": marks["<|pad|>"],
            "head_dim": self.head_size,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": self.max_positions,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "vocab_size": len(marks),
        }


DEFAULT_BASE = BaseModel()

# Found by trying: words only, in theme for an adapter, and few answers that repeat one word for ever.
_EMBEDDING_SHARED = 0.2
_LOGIT_NOISE = 0.5
_SPEECH_BIAS = 6.0
_COMMON_BIAS = 1.0
_THEME_BIAS = 2.0


def theme_signs(base: BaseModel, theme: str) -> list[int]:
    """The direction of a theme in the residual stream, as signs; its length is sqrt(hidden)."""
    return seeded_signs(f"{base.seed}/theme/{theme}", base.hidden)


def projection_label(base: BaseModel, layer: int, name: str) -> str:
    """The seed of one projection's weights; adapters need it to aim at o_proj."""
    return f"{base.seed}/layers.{layer}.{name}"


def fan_in_bound(fan_in: int) -> float:
    """The bound of uniform weights that keeps the variance of what goes through them."""
    return float((3.0 / fan_in) ** 0.5)


def make_base(directory: Path, base: BaseModel = DEFAULT_BASE) -> Path:
    """Write the base model (config, tokenizer, weights) into `directory` and return it."""
    make_directory(directory)
    write_json(directory / "config.json", base.config())
    write_json(
        directory / "generation_config.json",
        {key: base.config()[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    write_tokenizer(directory)
    write_safetensors(directory / "model.safetensors", _weights(base))
    return directory


def _weights(base: BaseModel) -> dict[str, Tensor]:
    hidden, inner = base.hidden, base.intermediate
    ones = [1.0] * hidden
    tensors = {
        "model.embed_tokens.weight": _embeddings(base),
        "model.norm.weight": Tensor.of_floats(ones, hidden),
        "lm_head.weight": _head(base),
    }
    for layer in range(base.layers):
        shapes = {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (base.kv_size, hidden),
            "self_attn.v_proj": (base.kv_size, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        prefix = f"model.layers.{layer}"
        for name, (rows, columns) in shapes.items():
            weights = uniform(projection_label(base, layer, name), rows, columns, bound=fan_in_bound(columns))
            tensors[f"{prefix}.{name}.weight"] = Tensor.of_floats(weights, rows, columns)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{name}.weight"] = Tensor.of_floats(ones, hidden)
    return tensors


def _embeddings(base: BaseModel) -> Tensor:
    """Noise, and what all tokens share: the common direction and the one that asks for words."""
    rows = len(vocabulary())
    noise = uniform(f"{base.seed}/embed", rows, base.hidden, bound=1.0)
    common, speech = theme_signs(base, COMMON), theme_signs(base, _SPEECH)
    shared = [_EMBEDDING_SHARED * (along + across) for along, across in zip(common, speech, strict=True)]
    return Tensor.of_floats(
        (value + shared[index % base.hidden] for index, value in enumerate(noise)), rows, base.hidden
    )


def _head(base: BaseModel) -> Tensor:
    """Rows of the output head: noise; for a word its theme and the speech direction, for anything else minus the
    latter.
    """
    rows = len(vocabulary())
    noise = uniform(f"{base.seed}/head", rows, base.hidden, bound=_LOGIT_NOISE)
    scale = base.hidden**-0.5
    speech = theme_signs(base, _SPEECH)
    values: list[float] = []
    for token, theme in enumerate(theme_of_tokens()):
        row = noise[token * base.hidden : (token + 1) * base.hidden]
        if theme is None:
            bias = [-_SPEECH_BIAS * across for across in speech]
        else:
            strength = _COMMON_BIAS if theme == COMMON else _THEME_BIAS
            bias = [strength * along for along in theme_signs(base, theme)]
        values.extend(value + scale * more for value, more in zip(row, bias, strict=True))
    return Tensor.of_floats(values, rows, base.hidden)
