"""How generated files are spelled: the same bytes on every machine, and pleasant to read in a diff."""

from __future__ import annotations

from typing import Any

import yaml

GENERATED = "Generated from operator/npc_operator by `make generate`; do not edit."


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, as Kubernetes manifests are usually written, and never makes anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
