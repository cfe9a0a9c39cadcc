"""Tables that are on their way to a gateway: as many as may matter, however often they are pushed in vain."""

from __future__ import annotations

from npc_operator.reconcilers.routebook import REMEMBERED
from npc_operator.reconcilers.underway import MOST_SENT, UnderWay
from npc_operator.reconcilers.world import Door
from npc_runtime.wire import Stamp
from tests.support.builders import pod_fact

DOOR = Door(pod_fact("gateway-1"), None)


def pushed(under_way: UnderWay, applied: int = 0) -> list[int]:
    return [generation for _, generation in under_way.pushed_after(DOOR, (1, applied))]


def test_a_table_that_is_pushed_again_and_again_is_one() -> None:
    under_way = UnderWay()
    for generation in (1, 2, 2, 2, 1, 2):
        under_way.send(DOOR, None, Stamp(epoch=1, generation=generation))
    assert sorted(pushed(under_way)) == [1, 2]
    assert pushed(under_way, applied=1) == [2]


def test_a_gateway_that_takes_no_table_for_days_is_remembered_by_the_oldest_and_by_all_whose_content_is_known() -> None:
    under_way = UnderWay()
    for generation in range(1, 5000):
        under_way.send(DOOR, None, Stamp(epoch=1, generation=generation))
    found = pushed(under_way)
    assert len(found) == MOST_SENT > REMEMBERED
    assert found[0] == 1
    assert found[1:] == list(range(5000 - MOST_SENT + 1, 5000))
    under_way.send(DOOR, Stamp(epoch=1, generation=4999), Stamp(epoch=1, generation=5000))
    assert pushed(under_way) == [5000]
