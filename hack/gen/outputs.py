"""Which files are generated, and from what; the one list that writing, checking and tests share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hack.gen.charts import crd_notes, crd_templates, operator_rights, region_rights, region_values_schema
from hack.gen.reference import reference_pages
from hack.gen.text import GENERATED, to_yaml
from npc_operator.api.crd import crds

ROOT = Path(__file__).resolve().parents[2]
# Folders that hold generated files only: what is there and not generated is a leftover of a renamed kind.
OWNED = (Path("crds"), Path("docs/api"), Path("charts/npc-crds/templates"))


def collect_outputs() -> Mapping[Path, str]:
    """Absolute path -> text of every generated file, in a fixed order."""
    definitions = crds()
    outputs: dict[Path, str] = {}
    for name, crd in definitions.items():
        outputs[Path("crds") / name] = f"# {GENERATED}\n{to_yaml(crd)}"
    for name, text in crd_templates(definitions).items():
        outputs[Path("charts/npc-crds/templates") / name] = text
    outputs[Path("charts/npc-crds/templates/NOTES.txt")] = crd_notes(definitions)
    for name, text in reference_pages(definitions).items():
        outputs[Path("docs/api") / name] = text
    outputs[Path("charts/npc-operator/templates/_rights.tpl")] = operator_rights()
    outputs[Path("charts/npc-region/templates/_rights.tpl")] = region_rights()
    outputs[Path("charts/npc-region/values.schema.json")] = region_values_schema(definitions)
    return {ROOT / path: text for path, text in outputs.items()}


def find_leftovers(outputs: Mapping[Path, str]) -> list[Path]:
    """Files in a generated folder that nothing generates."""
    present = {path for folder in OWNED for path in (ROOT / folder).glob("**/*") if path.is_file()}
    return sorted(present - set(outputs))
