"""The tokenizer of the test model: byte-level BPE whose words are whole tokens, with a chat template.

`ignore_merges` (as in Llama 3) makes a word of the vocabulary one token without the chain of merges that would
otherwise fill the vocabulary with fragments; everything else falls back to single bytes, so every text can be encoded.
"""

from pathlib import Path

from hack.models.tensors import write_json
from hack.models.words import CHAT_MARKS, THEMES

CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Roles are system, user and assistant: each has a mark of its own in the vocabulary."""

SPACE = "Ġ"
"""How byte-level BPE writes a space."""


def byte_characters() -> list[str]:
    """The printable character that byte-level BPE writes for each byte (the table of GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(printable))
    return [table[byte] for byte in range(256)]


def vocabulary() -> dict[str, int]:
    """Token text -> id: the chat marks, the 256 bytes, then the words theme by theme."""
    words = [SPACE + word for theme in THEMES.values() for word in theme]
    return {token: index for index, token in enumerate([*CHAT_MARKS, *byte_characters(), *words])}


def theme_of_tokens() -> list[str | None]:
    """For each token id the theme of its word; None for chat marks and bytes, which no answer should contain."""
    themes: list[str | None] = [None] * (len(CHAT_MARKS) + 256)
    for theme, words in THEMES.items():
        themes.extend([theme] * len(words))
    return themes


def write_tokenizer(directory: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    vocab = vocabulary()
    write_json(
        directory / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": vocab[mark],
                    "content": mark,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for mark in CHAT_MARKS
            ],
            "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": True,
                "vocab": vocab,
                "merges": [],
            },
        },
    )
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|bos|>",
            "eos_token": "<|eos|>",
            "pad_token": "<|pad|>",
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 2048,
        },
    )
