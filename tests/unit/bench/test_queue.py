"""The messages of the queue row are what they are counted as."""

from __future__ import annotations

from collections import Counter

from hack.bench.row_queue import MESSAGES, build_messages, count_expected
from npc_operator.domain.interruption.notices import Notice
from npc_operator.domain.interruption.sources.eventbridge import parse_message


def test_each_kind_of_message_is_there_as_often_as_it_is_expected() -> None:
    found = [item for body in build_messages(200) for item in parse_message(body, seen=1.0)]
    notices, ignored = count_expected(200)
    assert Counter(item.kind.value for item in found if isinstance(item, Notice)) == notices
    assert Counter(item.reason for item in found if not isinstance(item, Notice)) == ignored
    assert notices.total() + ignored.total() == 200
    assert MESSAGES % 100 == 0
