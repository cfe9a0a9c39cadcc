"""What opening a stream to a pod fails with: the API server's status, and no digits that only look like one."""

from __future__ import annotations

import pytest

from npc_runtime.cli.clients.faults import stream_fault
from npc_runtime.cli.ports import Forbidden, NotFound, NotReached

HEADERS = "{{'audit-id': '{audit}', 'date': 'Sat, 21 Nov 2026 21:40:43 GMT', 'content-length': '403'}}"


@pytest.mark.parametrize("audit", ["1c2f404a-9d1e", "1c2f403a-9d1e", "1c2fbeef-9d1e"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [("500 Internal Server Error", NotReached), ("404 Not Found", NotFound), ("403 Forbidden", Forbidden)],
)
def test_the_status_decides_and_never_the_id_of_the_request(audit: str, status: str, kind: type[Exception]) -> None:
    told = f"Handshake status {status} -+-+- {HEADERS.format(audit=audit)} -+-+- b'no 404 and no 403'"
    assert type(stream_fault(told, "create pods/exec", "eu-west", "gold-1")) is kind


def test_a_connection_that_breaks_has_no_status() -> None:
    told = "[Errno 104] Connection reset by peer 10.0.4.04:40403"
    assert type(stream_fault(told, "create pods/exec", "eu-west", "gold-1")) is NotReached
