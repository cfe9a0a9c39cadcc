"""Sharing what parsed objects have in common: smaller, and nothing that can be observed changes."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from npc_operator.loop.slim import Pool, share


class Colour(StrEnum):
    RED = "red"


class Part(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    reason: str = ""


class Whole(BaseModel):
    model_config = ConfigDict(frozen=True)

    text: str
    colour: Colour = Colour.RED
    one: Part | None = None
    parts: tuple[Part, ...] = ()
    names: tuple[str, ...] = ()


def parse(suffix: str) -> Whole:
    raw = {
        "text": f"long {suffix}",
        "one": {"name": "x"},
        "parts": [{"name": "y", "reason": f"be{'cause'}"}],
        "names": ["a"],
    }
    return Whole.model_validate_json(Whole.model_validate(raw).model_dump_json(exclude_unset=True))


def test_nothing_that_can_be_observed_changes() -> None:
    plain, shared = parse("1"), share(parse("1"))
    assert shared == plain
    assert hash(shared) == hash(plain)
    assert shared.model_dump(exclude_unset=True) == plain.model_dump(exclude_unset=True)
    assert shared.model_fields_set == plain.model_fields_set
    assert shared.colour is Colour.RED


def test_objects_alike_share_their_notes_and_texts_down_to_the_last_part() -> None:
    one, two = share(parse("1")), share(parse("2"))
    assert one.model_fields_set is two.model_fields_set
    assert one.parts[0].model_fields_set is two.parts[0].model_fields_set
    assert one.parts[0].reason is two.parts[0].reason
    assert one.one is not None
    assert two.one is not None
    assert one.one.model_fields_set is two.one.model_fields_set
    assert one.one.model_fields_set is not one.parts[0].model_fields_set


def test_a_copy_with_another_value_leaves_the_shared_notes_alone() -> None:
    one = share(parse("1"))
    before = set(one.model_fields_set)
    copy = one.model_copy(update={"colour": Colour.RED})
    assert copy.model_fields_set == before | {"colour"}
    assert one.model_fields_set == before


class Word:
    """Equal to whatever says the same, and not kept alive by being shared."""

    def __init__(self, key: str, text: str) -> None:
        self.key, self.text = key, text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Word) and (self.key, self.text) == (other.key, other.text)

    __hash__ = None  # type: ignore[assignment] # a pool asks for nothing but equality


def test_equal_values_of_many_owners_are_one_object() -> None:
    pool: Pool[Word] = Pool(lambda word: word.key)
    first = pool.shared(Word("a", "x"))
    assert pool.shared(Word("a", "x")) is first
    other = pool.shared(Word("a", "y"))
    assert other is not first
    assert other.text == "y"


def test_a_value_nobody_has_is_not_kept() -> None:
    pool: Pool[Word] = Pool(lambda word: word.key)
    word = pool.shared(Word("a", "x"))
    assert len(pool) == 1
    del word
    assert len(pool) == 0


MESSAGES = """
from npc_operator.loop.slim import give_large_blocks_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

assert give_large_blocks_back()
bytearray(300_000)  # one message that comes and goes
before = resident()
pairs = [(bytearray(300_000), bytearray(2_000)) for _ in range(100)]
assert resident() - before > 25_000_000
kept = [small for _, small in pairs]
del pairs
print(resident() - before)
"""


def test_what_large_messages_took_is_given_back_though_small_objects_lie_between() -> None:
    found = subprocess.run([sys.executable, "-c", MESSAGES], check=True, capture_output=True, text=True)
    assert int(found.stdout) < 5_000_000
