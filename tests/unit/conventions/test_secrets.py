"""Credentials come by reference only: no field of the API can hold one, and a reference never leaves the namespace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from npc_operator.api.crd import crds
from npc_operator.api.engineargs import OWN_VARIABLES

Schema = dict[str, Any]

CREDENTIAL = re.compile(r"token|password|passwd|secret|credential|apikey|accesskey|privatekey", re.IGNORECASE)
TOKENS_OF_TEXT = re.compile(r"maxTokens|firstToken", re.IGNORECASE)
"""What a model speaks in is no secret."""
REFERENCES = {"secretRef", "imagePullSecrets", "secret", "secretName"}


def fields(schema: Schema, path: str) -> Iterator[tuple[str, str, Schema]]:
    """(path, name, schema) of every field below."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", name, child
        yield from fields(child, f"{path}.{name}")
        if "items" in child:
            yield from fields(child["items"], f"{path}.{name}[]")


FIELDS = [
    field
    for crd in crds().values()
    for field in fields(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], crd["spec"]["names"]["kind"])
]


@pytest.mark.parametrize(
    ("path", "name", "schema"),
    [field for field in FIELDS if CREDENTIAL.search(field[1]) and not TOKENS_OF_TEXT.search(field[1])],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_a_field_about_credentials_is_a_reference(path: str, name: str, schema: Schema) -> None:
    assert name in REFERENCES
    if name == "secretRef":
        assert set(schema["properties"]) == {"name"}
    if name == "imagePullSecrets":
        assert set(schema["items"]["properties"]) == {"name"}


def test_there_are_such_fields() -> None:
    assert {name for _, name, _ in FIELDS} >= REFERENCES


def test_variables_of_an_engine_cannot_carry_the_credentials_that_the_operator_brings() -> None:
    assert {"VLLM_API_KEY", "HF_TOKEN"} <= set(OWN_VARIABLES)
