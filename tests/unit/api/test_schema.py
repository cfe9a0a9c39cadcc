"""From pydantic to structural schemas: what is turned into what, and what is refused instead of dropped."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from npc_operator.api.base import ApiModel, ListMap, ListSet, Rule
from npc_operator.api.schema import NotStructuralError, structural_schema


class Inner(ApiModel):
    """An inner object."""

    rules: ClassVar[tuple[Rule, ...]] = (Rule("self.lowCount <= 5", "too many", field_path=".lowCount"),)

    low_count: int = Field(default=3, ge=0, le=5)
    """A small
    number."""
    note: str = Field(default="", max_length=8)
    """Free text."""


def properties(model: type[ApiModel], **options: bool) -> dict[str, Any]:
    result: dict[str, Any] = structural_schema(model, **options)["properties"]
    return result


def test_names_are_camel_case_and_descriptions_are_one_line() -> None:
    assert properties(Inner)["lowCount"]["description"] == "A small number."


def test_an_inner_object_is_spelled_out_with_its_rules_and_the_fields_own_description() -> None:
    class Outer(ApiModel):
        inner: Inner
        """What stands here."""

    schema = structural_schema(Outer)
    inner = schema["properties"]["inner"]
    assert schema["required"] == ["inner"]
    assert inner["type"] == "object"
    assert inner["description"] == "What stands here."
    assert inner["x-kubernetes-validations"] == [
        {"rule": "self.lowCount <= 5", "message": "too many", "reason": "FieldValueInvalid", "fieldPath": ".lowCount"}
    ]


def test_a_rule_of_a_field_stands_beside_those_of_its_type() -> None:
    class Outer(ApiModel):
        inner: Annotated[Inner, Rule("has(self.note)", "say something")]

    messages = [rule["message"] for rule in properties(Outer)["inner"]["x-kubernetes-validations"]]
    assert messages == ["too many", "say something"]


def test_a_rule_of_an_item_stands_on_the_item() -> None:
    class Outer(ApiModel):
        words: tuple[Annotated[str, Field(max_length=9), Rule("self != 'no'", "not that")], ...]

    assert properties(Outer)["words"]["items"]["x-kubernetes-validations"][0]["message"] == "not that"


def test_defaults_of_an_object_apply_below_an_empty_object() -> None:
    class Outer(ApiModel):
        inner: Inner = Inner()

    inner = properties(Outer)["inner"]
    assert inner["default"] == {}
    assert inner["properties"]["lowCount"]["default"] == 3


def test_a_default_object_holds_only_what_differs_from_its_own_defaults() -> None:
    class Outer(ApiModel):
        inner: Inner = Inner(note="hello")

    assert properties(Outer)["inner"]["default"] == {"note": "hello"}


def test_an_empty_string_list_or_map_is_no_default() -> None:
    class Outer(ApiModel):
        text: str = Field(default="", max_length=1)
        words: tuple[Annotated[str, Field(max_length=1)], ...] = ()
        labels: dict[str, str] = Field(default={})
        count: int = 0
        on: bool = False

    found = properties(Outer)
    assert [name for name, field in found.items() if "default" in field] == ["count", "on"]
    assert "required" not in structural_schema(Outer)


def test_a_status_has_no_defaults_at_all() -> None:
    class Outer(ApiModel):
        inner: Inner = Inner()
        count: int = 0

    inner = properties(Outer, defaults=False)["inner"]
    assert "default" not in inner
    assert "default" not in inner["properties"]["lowCount"]
    assert "default" not in properties(Outer, defaults=False)["count"]


def test_optional_means_absent_and_never_null() -> None:
    class Outer(ApiModel):
        maybe: int | None = Field(default=None, ge=0, le=9)

    field = properties(Outer)["maybe"]
    assert field == {"type": "integer", "format": "int32", "minimum": 0, "maximum": 9}


def test_an_integer_without_a_small_maximum_is_64_bits_wide() -> None:
    class Outer(ApiModel):
        generation: int = 0
        size: int = Field(default=0, le=2**31)

    assert {field["format"] for field in properties(Outer).values()} == {"int64"}


def test_a_choice_of_words_is_an_enum_even_if_there_is_one() -> None:
    class Outer(ApiModel):
        one: Literal["Only"] = "Only"
        more: Literal["A", "B"] = "A"

    assert properties(Outer)["one"] == {"type": "string", "enum": ["Only"], "default": "Only"}
    assert properties(Outer)["more"]["enum"] == ["A", "B"]


def test_a_quantity_is_integer_or_string_with_the_bounds_of_both() -> None:
    class Outer(ApiModel):
        size: Annotated[str, Field(max_length=9, pattern="^x$")] | Annotated[int, Field(ge=0)]

    assert properties(Outer)["size"] == {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "maxLength": 9,
        "pattern": "^x$",
        "minimum": 0,
    }


def test_lists_say_how_they_merge() -> None:
    class Outer(ApiModel):
        whole: tuple[Inner, ...]
        by_key: Annotated[tuple[Inner, ...], ListMap("note")]
        distinct: Annotated[tuple[Annotated[str, Field(max_length=1)], ...], ListSet()]

    found = properties(Outer)
    assert found["whole"]["x-kubernetes-list-type"] == "atomic"
    assert found["byKey"]["x-kubernetes-list-type"] == "map"
    assert found["byKey"]["x-kubernetes-list-map-keys"] == ["note"]
    assert found["distinct"]["x-kubernetes-list-type"] == "set"


class Recursive(ApiModel):
    """Holds itself."""

    inner: Recursive | None = None


class Union(ApiModel):
    """Two objects, or one."""

    either: Inner | str


class Float(ApiModel):
    """A step that no structural schema has."""

    value: int = Field(multiple_of=3)


class Anything(ApiModel):
    """A field of any type."""

    value: Any = None


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Recursive, "holds itself"),
        (Union, "the only union is integer or string"),
        (Float, "no structural form for multipleOf"),
        (Anything, "has no type"),
    ],
)
def test_what_has_no_structural_form_is_named_instead_of_dropped(model: type[ApiModel], reason: str) -> None:
    with pytest.raises(NotStructuralError, match=reason):
        structural_schema(model)
