"""The generated parts of the charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hack.gen.text import GENERATED, to_yaml

_LABELS = """\
  labels:
    app.kubernetes.io/name: npc-crds
    app.kubernetes.io/part-of: npc-fleet
    app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
    app.kubernetes.io/managed-by: {{ .Release.Service }}
    helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
    {{- with .Values.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or .Values.keep .Values.annotations }}
  annotations:
    {{- if .Values.keep }}
    helm.sh/resource-policy: keep
    {{- end }}
    {{- with .Values.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
"""


def crd_templates(crds: Mapping[str, dict[str, Any]]) -> Mapping[str, str]:
    """The CRDs as templates, not in a chart's crds/ folder: Helm never upgrades what lies there.

    :raises ValueError: if a description would be taken for a template.
    """
    pages: dict[str, str] = {}
    for name, crd in crds.items():
        spec = to_yaml({"spec": crd["spec"]})
        if "{{" in spec:
            raise ValueError(f"{name}: '{{{{' would be read as a template")
        head = f"apiVersion: {crd['apiVersion']}\nkind: {crd['kind']}\nmetadata:\n  name: {crd['metadata']['name']}\n"
        pages[name] = f"# {GENERATED}\n{head}{_LABELS}{spec}"
    return pages
