"""The certificate that game servers see: what is wrong with it, and whether gateways may change over to it.

Gateways go on with the certificate they have; one that starts needs the Secret. So what a spec newly asks for (HTTPS
instead of HTTP, or another Secret) is carried out once its certificate can be used, and a mistake there takes no
gateway off the Service.
"""

from __future__ import annotations

from npc_operator.api.npcregion import Tls
from npc_operator.domain import reasons
from npc_operator.domain.conditions import Finding, rfc3339
from npc_operator.domain.facts import CertificateFact


def find_certificate_fault(
    tls: Tls | None, known: CertificateFact | None, *, namespace: str, now: float
) -> Finding | None:
    """What a person has to mend; None also while nobody looked."""
    if tls is None or known is None:
        return None
    name = f"Secret {tls.secret_name} of gateway.tls.secretName"
    if known.missing:
        command = f"kubectl create secret tls {tls.secret_name} --cert=FILE --key=FILE -n {namespace}"
        return Finding(reasons.SECRET_NOT_FOUND, f"{name} does not exist; {_GO_ON}; create it: {command}")
    if known.fault:
        message = f"{name} cannot be used: {known.fault}; {_GO_ON}; put a certificate and its key there, in PEM form"
        return Finding(reasons.CERTIFICATE_INVALID, message)
    if known.ends is not None and known.ends <= now:
        message = f"the certificate in {name} ended at {rfc3339(known.ends)}, so callers refuse it; put a new one there"
        return Finding(reasons.CERTIFICATE_INVALID, message)
    return None


_GO_ON = "gateways that run go on as they are, and one that starts waits for it"


def pick_tls(wanted: Tls | None, present: Tls | None, *, begun: bool, known: CertificateFact | None) -> Tls | None:
    """What gateways should be run with. `present`: what they are run with now, if they are (`begun`); `known`: of the
    wanted Secret.

    Without gateways there is nothing to go on with, and none begins with plain HTTP where HTTPS is wanted.
    """
    if wanted is None or not begun or wanted == present:
        return wanted
    usable = known is not None and not known.missing and not known.fault
    return wanted if usable else present
