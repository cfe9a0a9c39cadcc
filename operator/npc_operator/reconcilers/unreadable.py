"""Objects this version cannot parse: say so on the object, touch nothing else. What was last understood of it goes on
being kept.
"""

from __future__ import annotations

from npc_operator.api import names
from npc_operator.api.meta import Condition
from npc_operator.domain import reasons
from npc_operator.domain.conditions import STALLED, clip, rfc3339
from npc_operator.domain.facts import Unreadable
from npc_operator.domain.outcomes import Outcome, Terminal
from npc_operator.ports import ObjectRef
from npc_operator.reconcilers.context import Context


async def report_unreadable(context: Context, fact: Unreadable) -> Outcome:
    """Add a Stalled condition to the live status, leaving everything else in it as it is."""
    message = clip(f"this operator cannot read the object: {fact.error}", 1024)
    ref = ObjectRef(names.API_VERSION, fact.kind, fact.meta.namespace, fact.meta.name)
    live = await context.kube.get(ref)
    if live is None or live["metadata"]["uid"] != fact.meta.uid:
        return Terminal(reasons.UNREADABLE)
    status = dict(live.get("status") or {})
    conditions = [entry for entry in status.get("conditions") or () if entry.get("type") != STALLED]
    old = next((entry for entry in status.get("conditions") or () if entry.get("type") == STALLED), None)
    if old is not None and old.get("reason") == reasons.UNREADABLE and old.get("message") == message:
        return Terminal(reasons.UNREADABLE)
    since = old["lastTransitionTime"] if old is not None else rfc3339(context.clock.now())
    stalled = Condition.model_validate(
        {
            "type": STALLED,
            "status": "True",
            "reason": reasons.UNREADABLE,
            "message": message,
            "lastTransitionTime": since,
            "observedGeneration": fact.meta.generation,
        }
    )
    conditions.append(stalled.model_dump(mode="json", by_alias=True))
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": fact.kind,
        "metadata": {"name": fact.meta.name, "namespace": fact.meta.namespace, "uid": fact.meta.uid},
        "status": {**status, "conditions": conditions},
    }
    await context.kube.apply(manifest, manager=names.MANAGER_STATUS, subresource="status")
    return Terminal(reasons.UNREADABLE)
