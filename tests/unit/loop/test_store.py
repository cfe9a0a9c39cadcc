"""The store: facts by namespace, who is told, and older words that never replace newer ones."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from npc_operator.loop.store import TOMBSTONE_SECONDS, Change, Store
from tests.support.fake_clock import FakeClock


@dataclass(frozen=True, slots=True)
class Thing:
    value: int


@dataclass(frozen=True, slots=True)
class Other:
    value: int


def told(store: Store) -> list[Change]:
    changes: list[Change] = []
    store.subscribe(changes.append)
    return changes


def test_facts_are_found_by_type_namespace_and_name() -> None:
    store = Store(FakeClock())
    store.put(Thing, "eu", "a", Thing(1))
    store.put(Thing, "us", "a", Thing(2))
    store.put(Other, "eu", "a", Other(3))
    assert store.get(Thing, "eu", "a") == Thing(1)
    assert store.get(Thing, "eu", "b") is None
    assert dict(store.list(Thing, "us")) == {"a": Thing(2)}
    assert dict(store.list(Thing, "nowhere")) == {}
    assert sorted(thing.value for thing in store.all(Thing)) == [1, 2]
    assert sorted(store.namespaces(Thing)) == ["eu", "us"]
    assert store.count(Thing) == 2


def test_subscribers_hear_what_came_changed_and_went_in_order() -> None:
    store = Store(FakeClock())
    changes = told(store)
    store.put(Thing, "eu", "a", Thing(1))
    store.put(Thing, "eu", "a", Thing(2))
    store.drop(Thing, "eu", "a")
    assert changes == [
        Change(Thing, "eu", "a", None, Thing(1)),
        Change(Thing, "eu", "a", Thing(1), Thing(2)),
        Change(Thing, "eu", "a", Thing(2), None),
    ]


def test_the_same_fact_again_is_no_news_but_makes_it_young() -> None:
    clock = FakeClock()
    store = Store(clock)
    store.put(Thing, "eu", "a", Thing(1))
    changes = told(store)
    clock.advance(10)
    assert store.age(Thing, "eu", "a") == 10
    assert store.put(Thing, "eu", "a", Thing(1)) is False
    assert changes == []
    assert store.age(Thing, "eu", "a") == 0
    assert store.age(Thing, "eu", "b") is None


def test_dropping_what_is_not_there_is_no_news() -> None:
    store = Store(FakeClock())
    changes = told(store)
    assert store.drop(Thing, "eu", "a") is False
    assert changes == []


def test_an_unsubscribed_listener_hears_nothing() -> None:
    store = Store(FakeClock())
    changes: list[Change] = []
    unsubscribe = store.subscribe(changes.append)
    unsubscribe()
    store.put(Thing, "eu", "a", Thing(1))
    assert changes == []


def test_a_listener_may_read_the_store_and_sees_the_new_fact() -> None:
    store = Store(FakeClock())
    seen: list[Thing | None] = []
    store.subscribe(lambda change: seen.append(store.get(Thing, change.namespace, change.name)))
    store.put(Thing, "eu", "a", Thing(1))
    store.drop(Thing, "eu", "a")
    assert seen == [Thing(1), None]


def test_an_older_word_never_replaces_a_newer_one() -> None:
    store = Store(FakeClock())
    store.put(Thing, "eu", "a", Thing(2), version=20)
    assert store.put(Thing, "eu", "a", Thing(1), version=10) is False
    assert store.get(Thing, "eu", "a") == Thing(2)
    assert store.version(Thing, "eu", "a") == 20


def test_a_list_page_does_not_bring_back_what_a_watch_saw_deleted() -> None:
    store = Store(FakeClock())
    store.put(Thing, "eu", "a", Thing(1), version=10)
    store.drop(Thing, "eu", "a", version=15)
    assert store.put(Thing, "eu", "a", Thing(1), version=10) is False
    assert store.get(Thing, "eu", "a") is None
    assert store.put(Thing, "eu", "a", Thing(3), version=16) is True


def test_a_late_deletion_does_not_take_the_object_that_followed() -> None:
    store = Store(FakeClock())
    store.put(Thing, "eu", "a", Thing(2), version=20)
    assert store.drop(Thing, "eu", "a", version=15) is False
    assert store.get(Thing, "eu", "a") == Thing(2)


def test_remembered_deletions_are_forgotten_in_time() -> None:
    clock = FakeClock()
    store = Store(clock)
    store.drop(Thing, "eu", "a", version=15)
    clock.advance(TOMBSTONE_SECONDS + 1)
    store.forget_tombstones()
    assert store.put(Thing, "eu", "a", Thing(1), version=10) is True


def test_a_type_is_synced_once_somebody_listed_it_and_until_a_new_beginning() -> None:
    store = Store(FakeClock())
    assert not store.synced(Thing)
    store.mark_synced(Thing)
    assert store.synced(Thing)
    assert not store.synced(Other)
    store.mark_unsynced()
    assert not store.synced(Thing)


def test_facts_may_change_while_they_are_walked_through() -> None:
    store = Store(FakeClock())
    for number in range(10):
        store.put(Thing, "eu", str(number), Thing(number))
    for thing in store.all(Thing):
        store.drop(Thing, "eu", str(thing.value))
    assert store.count(Thing) == 0
    assert list(store.namespaces(Thing)) == []


@given(st.permutations(list(range(1, 9))))
def test_in_whatever_order_words_come_the_newest_wins(order: list[int]) -> None:
    """Versions 1..8 of one object; every third one is its deletion."""
    store = Store(FakeClock())
    for version in order:
        if version % 3 == 0:
            store.drop(Thing, "eu", "a", version=version)
        else:
            store.put(Thing, "eu", "a", Thing(version), version=version)
    assert store.get(Thing, "eu", "a") == Thing(8)


def value_of(thing: Thing) -> int:
    return thing.value


PLACES = st.tuples(st.sampled_from(["eu", "us"]), st.sampled_from(["a", "b", "c"]))


@given(st.lists(st.tuples(PLACES, st.none() | st.integers(0, 2)), max_size=12), st.integers(0, 12))
def test_an_index_says_what_looking_at_every_fact_would(
    writes: list[tuple[tuple[str, str], int | None]], asked_first_at: int
) -> None:
    store = Store(FakeClock())
    for number, (place, value) in enumerate(writes):
        if number == asked_first_at:
            store.having(Thing, "eu", value_of, 0)  # an index begins whenever somebody asks first
        if value is None:
            store.drop(Thing, *place)
        else:
            store.put(Thing, *place, Thing(value))
    for namespace in ("eu", "us"):
        for value in range(3):
            found = store.having(Thing, namespace, value_of, value)
            assert sorted(found) == sorted(
                name for name, thing in store.list(Thing, namespace).items() if thing.value == value
            )


def test_an_index_holds_the_news_when_subscribers_are_told() -> None:
    store = Store(FakeClock())
    store.having(Thing, "eu", value_of, 2)
    seen: list[tuple[str, ...]] = []
    store.subscribe(lambda _: seen.append(store.having(Thing, "eu", value_of, 2)))
    store.put(Thing, "eu", "a", Thing(1))
    store.put(Thing, "eu", "a", Thing(2))
    store.drop(Thing, "eu", "a")
    assert seen == [(), ("a",), ()]
