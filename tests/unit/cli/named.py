"""Every named fault of `why`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.unit.cli import faults
from tests.unit.cli.degraded_faults import DEGRADED
from tests.unit.cli.moving_faults import MOVING

FAULTS: Mapping[str, Callable[[], faults.Fault]] = {**faults.FAULTS, **MOVING, **DEGRADED}
