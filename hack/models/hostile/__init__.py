"""Adapters that no fleet may serve, each wrong in exactly one way.

Every maker is `make_x(directory, base) -> Path`: it writes an adapter for `base` into `directory` and breaks one thing
in it. `HOSTILE` lists them all with the reason that the agent must report, so that a test can walk through them and
cannot forget one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.models.base import BaseModel
from hack.models.hostile import configs, files, headers, values

Maker = Callable[[Path, BaseModel], Path]


@dataclass(frozen=True, slots=True)
class Hostile:
    """One way to be wrong: how to make it, and the reason that must be reported for it."""

    make: Maker
    reason: str
    survives_s3: bool = True
    """Whether it is still the same after a copy to an object store, which has no links and dislikes some names."""
    wrong_digest: bool = False
    """The bytes are fine; whoever declares the adapter must declare another digest."""


HOSTILE: Mapping[str, Hostile] = {
    "wrong-digest": Hostile(files.make_sound, "DigestMismatch", wrong_digest=True),
    "missing-config": Hostile(files.make_missing_config, "MissingFile"),
    "missing-weights": Hostile(files.make_missing_weights, "MissingFile"),
    "extra-pickle": Hostile(files.make_extra_pickle, "ForbiddenFile"),
    "extra-bin": Hostile(files.make_extra_bin, "ForbiddenFile"),
    "extra-pt": Hostile(files.make_extra_pt, "ForbiddenFile"),
    "extra-python": Hostile(files.make_extra_python, "ForbiddenFile"),
    "extra-shared-object": Hostile(files.make_extra_shared_object, "ForbiddenFile"),
    "pickle-called-text": Hostile(files.make_pickle_called_text, "ForbiddenFile"),
    "symlink": Hostile(files.make_symlink, "Symlink", survives_s3=False),
    "symlinked-folder": Hostile(files.make_symlinked_folder, "Symlink", survives_s3=False),
    "space-in-name": Hostile(files.make_space_in_name, "UnsafePath"),
    "reserved-name": Hostile(files.make_reserved_name, "UnsafePath"),
    "backslash-in-name": Hostile(files.make_backslash_in_name, "UnsafePath", survives_s3=False),
    "two-spellings": Hostile(files.make_two_spellings, "UnsafePath"),
    "oversize": Hostile(files.make_oversize, "TooLarge", survives_s3=False),
    "truncated": Hostile(headers.make_truncated, "Truncated"),
    "empty-weights": Hostile(headers.make_empty_weights, "Truncated"),
    "rest-behind-data": Hostile(headers.make_rest_behind_data, "BadTensor"),
    "length-beyond-file": Hostile(headers.make_length_beyond_file, "Truncated"),
    "length-enormous": Hostile(headers.make_length_enormous, "BadHeader"),
    "length-zero": Hostile(headers.make_length_zero, "BadHeader"),
    "header-no-json": Hostile(headers.make_header_no_json, "BadHeader"),
    "header-huge": Hostile(headers.make_header_huge, "BadHeader"),
    "header-deep": Hostile(headers.make_header_deep, "BadHeader"),
    "duplicate-keys": Hostile(headers.make_duplicate_keys, "BadHeader"),
    "offsets-beyond-file": Hostile(headers.make_offsets_beyond_file, "Truncated"),
    "offsets-reversed": Hostile(headers.make_offsets_reversed, "BadHeader"),
    "offsets-negative": Hostile(headers.make_offsets_negative, "BadHeader"),
    "offsets-overlap": Hostile(headers.make_offsets_overlap, "BadTensor"),
    "offsets-gap": Hostile(headers.make_offsets_gap, "BadTensor"),
    "shape-lies": Hostile(headers.make_shape_lies, "BadTensor"),
    "shape-overflows": Hostile(headers.make_shape_overflows, "BadTensor"),
    "not-a-number": Hostile(values.make_not_a_number, "NotFinite"),
    "infinity": Hostile(values.make_infinity, "NotFinite"),
    "minus-infinity-bf16": Hostile(values.make_minus_infinity_bf16, "NotFinite"),
    "not-a-number-f16": Hostile(values.make_not_a_number_f16, "NotFinite"),
    "integer-weights": Hostile(values.make_integer_weights, "BadTensor"),
    "half-missing": Hostile(values.make_half_missing, "BadTensor"),
    "foreign-module": Hostile(values.make_foreign_module, "BaseMismatch"),
    "foreign-layer": Hostile(values.make_foreign_layer, "BaseMismatch"),
    "foreign-shape": Hostile(values.make_foreign_shape, "BaseMismatch"),
    "rank-above": Hostile(values.make_rank_above, "RankTooHigh"),
    "rank-hidden-in-tensors": Hostile(values.make_rank_hidden_in_tensors, "RankTooHigh"),
    "rank-pattern-above": Hostile(configs.make_rank_pattern_above, "RankTooHigh"),
    "config-no-json": Hostile(configs.make_config_no_json, "BadConfig"),
    "dora": Hostile(configs.make_dora, "UnsupportedFeature"),
    "bias": Hostile(configs.make_bias, "UnsupportedFeature"),
    "modules-to-save": Hostile(configs.make_modules_to_save, "UnsupportedFeature"),
    "pissa": Hostile(configs.make_pissa, "UnsupportedFeature"),
    "other-peft-type": Hostile(configs.make_other_peft_type, "UnsupportedFeature"),
}
"""All of them, by a name that can be a Kubernetes object's."""
