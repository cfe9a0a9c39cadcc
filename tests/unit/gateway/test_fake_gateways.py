"""The gateways in memory that the operator's tests push to take what the real one takes, and refuse what it refuses."""

from __future__ import annotations

import pytest

from npc_operator.ports import PortError, StaleLeader
from npc_runtime import wire
from npc_runtime.gateway.table import BadTable, compile_table
from tests.support.fake_gateways import FakeGateway
from tests.unit.gateway.tables import route_table


def test_a_table_that_the_real_gateway_refuses_is_refused_with_its_words_and_changes_nothing() -> None:
    good = route_table()
    bad = good.model_copy(update={"default_tier": "iron", "stamp": wire.Stamp(epoch=9, generation=9)})
    with pytest.raises(BadTable) as real:
        compile_table(bad)
    gateway = FakeGateway("10.0.0.1")
    gateway.take(good)
    with pytest.raises(PortError) as refused:
        gateway.take(bad)
    assert (refused.value.reason, refused.value.code) == ("BadMessage", 400)
    assert str(real.value) in str(refused.value)
    assert (gateway.table, gateway.history) == (good, [good])


def test_a_table_that_contradicts_itself_is_told_so_before_it_is_called_old() -> None:
    gateway = FakeGateway("10.0.0.1")
    gateway.take(route_table())
    with pytest.raises(PortError) as refused:
        gateway.take(
            route_table().model_copy(update={"default_tier": "iron", "stamp": wire.Stamp(epoch=0, generation=0)})
        )
    assert not isinstance(refused.value, StaleLeader)
