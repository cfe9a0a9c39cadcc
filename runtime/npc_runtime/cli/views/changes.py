"""What was changed, field by field: the record that belongs in an incident channel."""

from __future__ import annotations

from ..answers import Answer, Cell, Lines, Tone, line
from ..changes.plan import Plan, said


def view_plan(plan: Plan, *, notes: tuple[str, ...] = (), dry_run: bool) -> Answer:
    """Which field of which object went from what to what."""
    if not plan.changes:
        head = f"{plan.thing}: nothing to change"
    elif dry_run:
        head = f"{plan.thing}: the API server would take this; nothing was changed"
    else:
        head = f"{plan.thing}: changed"
    lines = [line(Cell(head, Tone.HEAD))]
    lines += [line(f"  {one.name}: {said(one.before)} -> ", Cell(said(one.after), Tone.GOOD)) for one in plan.changes]
    told = (*plan.notes, *notes)
    lines += [line(f"  {note}") for note in told]
    data = {
        "object": {"kind": plan.kind, "namespace": plan.namespace, "name": plan.name},
        "changed": bool(plan.changes) and not dry_run,
        "dryRun": dry_run,
        "changes": [{"field": one.name, "from": one.before, "to": one.after} for one in plan.changes],
        "notes": list(told),
    }
    return Answer(data, (Lines(tuple(lines)),))
