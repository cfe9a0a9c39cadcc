"""The certificate for game servers: what a person must mend, and when gateways change over to another one."""

from __future__ import annotations

import pytest

from npc_operator.api.npcregion import Tls
from npc_operator.domain import reasons
from npc_operator.domain.facts import CertificateFact
from npc_operator.domain.gateway_tls import find_certificate_fault, pick_tls

NEW, OLD = Tls(secret_name="new"), Tls(secret_name="old")
GOOD, BAD, GONE = CertificateFact(ends=200.0), CertificateFact(fault="it has no tls.key"), CertificateFact(missing=True)


@pytest.mark.parametrize(
    ("tls", "known", "reason", "parts"),
    [
        (None, GONE, None, ()),
        (NEW, None, None, ()),
        (NEW, GOOD, None, ()),
        (NEW, CertificateFact(ends=100.5), None, ()),
        (
            NEW,
            GONE,
            reasons.SECRET_NOT_FOUND,
            ("Secret new of gateway.tls.secretName does not exist", "kubectl create secret tls new", "-n eu-west"),
        ),
        (NEW, BAD, reasons.CERTIFICATE_INVALID, ("it has no tls.key", "gateways that run go on as they are")),
        (NEW, CertificateFact(ends=100.0), reasons.CERTIFICATE_INVALID, ("ended at 1970-01-01T00:01:40Z",)),
    ],
)
def test_a_certificate_that_cannot_serve_is_named_with_what_to_do(
    tls: Tls | None, known: CertificateFact | None, reason: str | None, parts: tuple[str, ...]
) -> None:
    found = find_certificate_fault(tls, known, namespace="eu-west", now=100.0)
    assert (None if found is None else found.reason) == reason
    assert all(found is not None and part in found.message for part in parts)


@pytest.mark.parametrize(
    ("wanted", "present", "begun", "known", "picked"),
    [
        (None, None, True, None, None),
        (None, OLD, True, None, None),  # nothing is needed for plain HTTP
        (NEW, None, False, None, NEW),  # no gateway yet: none begins with plain HTTP
        (NEW, None, False, GONE, NEW),
        (NEW, None, True, None, None),  # not looked at yet
        (NEW, None, True, GONE, None),
        (NEW, None, True, BAD, None),
        (NEW, None, True, GOOD, NEW),
        (NEW, OLD, True, GONE, OLD),
        (NEW, OLD, True, BAD, OLD),
        (NEW, OLD, True, GOOD, NEW),
        (NEW, NEW, True, GONE, NEW),  # it was there once: who runs has read it
        (NEW, NEW, True, BAD, NEW),
    ],
)
def test_gateways_change_over_only_to_what_they_could_serve_with(
    wanted: Tls | None, present: Tls | None, begun: bool, known: CertificateFact | None, picked: Tls | None
) -> None:
    assert pick_tls(wanted, present, begun=begun, known=known) == picked
