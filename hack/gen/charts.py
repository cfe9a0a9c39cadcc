"""The generated parts of the charts: CRDs as templates, RBAC rules from the one table of rights, values schemas."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hack.gen.text import GENERATED, to_yaml
from npc_operator.api.meta import ADAPTER_NAME_LENGTH, DNS_NAME, REGION_NAME_LENGTH, TIER_NAME_LENGTH
from npc_operator.api.names import GROUP, KIND_TIER, PLURALS
from npc_operator.rights import PATH_RIGHTS, RIGHTS, PathRight, Right, Scope

Schema = dict[str, Any]

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

_SEE = ("get", "list", "watch")
_CHANGE = ("create", "update", "patch", "delete", "deletecollection")


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


def crd_notes(crds: Mapping[str, dict[str, Any]]) -> str:
    """NOTES.txt of the npc-crds chart: which kinds there are now, and the next commands."""
    names = [crd["metadata"]["name"] for crd in crds.values()]
    kinds = "\n".join(f"  kubectl explain {crd['spec']['names']['singular']}.spec" for crd in crds.values())
    return f"""\
The kinds of the NPC fleet {{{{ .Chart.AppVersion }}}} are there:
{kinds}

Have they been taken up by the API server?
  kubectl wait --for=condition=Established crd/{" crd/".join(names)}

Install the operator, once per cluster:
  helm install npc-operator charts/npc-operator -n {{{{ .Release.Namespace }}}} \\
    --set image.repository=REGISTRY/npc-fleet --set image.tag=TAG
REGISTRY and TAG are where you pushed the image (python -m hack.images --push REGISTRY/npc-fleet:TAG).
{{{{- if .Values.keep }}}}

helm uninstall {{{{ .Release.Name }}}} keeps the kinds and every object of theirs. To delete both:
  kubectl delete crd {" ".join(names)}
{{{{- else }}}}

NOTE: keep is false. helm uninstall {{{{ .Release.Name }}}} deletes the kinds, and with them every region, tier
and adapter.
{{{{- end }}}}
"""


def operator_rights() -> str:
    """Named templates with the rules of every role in the npc-operator chart."""
    scale = f"{PLURALS[KIND_TIER]}/scale"
    kinds = sorted(PLURALS.values())
    see = [
        *(Right(Scope.WATCHED, GROUP, plural, _SEE, "what is wanted and how it is") for plural in kinds),
        Right(Scope.WATCHED, GROUP, scale, ("get",), "how many replicas are wanted"),
    ]
    change = [
        *(Right(Scope.WATCHED, GROUP, plural, _CHANGE, "to say what is wanted") for plural in kinds),
        Right(Scope.WATCHED, GROUP, scale, ("update", "patch"), "kubectl scale and autoscalers"),
    ]
    return _template_file(
        {
            "npc-operator.rights.watched": (right for right in RIGHTS if right.scope is Scope.WATCHED),
            "npc-operator.rights.server": PATH_RIGHTS,
            "npc-operator.rights.nodes": (right for right in RIGHTS if right.scope is Scope.NODES),
            "npc-operator.rights.pools": (right for right in RIGHTS if right.scope is Scope.POOLS),
            "npc-operator.rights.own": (right for right in RIGHTS if right.scope is Scope.OWN),
            "npc-operator.rights.view": see,
            "npc-operator.rights.edit": change,
        }
    )


def region_rights() -> str:
    """The same for the npc-region chart: what the operator may do where a region is."""
    return _template_file({"npc-region.rights": (right for right in RIGHTS if right.scope is Scope.REGION)})


def _template_file(templates: Mapping[str, Iterable[Right | PathRight]]) -> str:
    parts = [f"{{{{- /* {GENERATED} */ -}}}}\n"]
    for name, rights in templates.items():
        rules = "".join(_rule(right) for right in rights)
        parts.append(f'{{{{- define "{name}" -}}}}\n{rules}{{{{- end -}}}}\n')
    return "\n".join(parts)


def _rule(right: Right | PathRight) -> str:
    if isinstance(right, PathRight):
        return f"# {right.why}\n- nonResourceURLs: [{', '.join(right.paths)}]\n  verbs: [{', '.join(right.verbs)}]\n"
    group = right.group or '""'
    verbs = ", ".join(right.verbs)
    return f"# {right.why}\n- apiGroups: [{group}]\n  resources: [{right.resource}]\n  verbs: [{verbs}]\n"


def region_values_schema(crds: Mapping[str, dict[str, Any]]) -> str:
    """values.schema.json of the npc-region chart: the kinds' own schemas, and nothing that they do not know."""
    specs = {
        crd["spec"]["names"]["kind"]: values_schema(
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        )
        for crd in crds.values()
    }
    adapter = specs["ArchetypeAdapter"]
    adapter["required"] = [name for name in adapter["required"] if name != "archetype"]
    strings = {"type": "object", "additionalProperties": {"type": "string"}}
    label = {"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
    schema: Schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "description": GENERATED,
        **_object(
            {
                "name": {"type": "string", "maxLength": REGION_NAME_LENGTH, "pattern": f"^$|{DNS_NAME}"},
                "operator": _object({"namespace": label, "serviceAccount": label}, "namespace", "serviceAccount"),
                "rbac": _object({"create": {"type": "boolean"}, "tool": _tool_values()}, "create", "tool"),
                "region": specs["NPCRegion"],
                "apiKeys": _object(
                    {
                        "names": {
                            "type": "array",
                            "minItems": 1,
                            "uniqueItems": True,
                            "items": {"type": "string", "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$"},
                        }
                    },
                    "names",
                ),
                "tiers": _named(specs["GpuTier"], TIER_NAME_LENGTH),
                "adapters": _named(adapter, ADAPTER_NAME_LENGTH),
                "labels": strings,
                "podMonitor": _object(
                    {
                        "enabled": {"type": "boolean"},
                        "interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
                        "labels": strings,
                    },
                    "enabled",
                    "interval",
                    "labels",
                ),
                "global": {"type": "object"},
            },
            "operator",
            "rbac",
            "region",
            "apiKeys",
            "tiers",
            "adapters",
            "labels",
            "podMonitor",
        ),
    }
    return json.dumps(schema, indent=1) + "\n"


def _tool_values() -> Schema:
    """Who gets the rights that `kubectl npc` needs."""
    text = {"type": "string", "minLength": 1}
    subject = _object(
        {
            "kind": {"enum": ["User", "Group", "ServiceAccount"]},
            "name": text,
            "namespace": text,
            "apiGroup": {"enum": ["", "rbac.authorization.k8s.io"]},
        },
        "kind",
        "name",
    )
    switch = {"type": "boolean"}
    return _object(
        {"create": switch, "change": switch, "drill": switch, "subjects": {"type": "array", "items": subject}},
        "create",
        "change",
        "drill",
        "subjects",
    )


def _object(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def _named(schema: Schema, length: int) -> Schema:
    names = {"pattern": DNS_NAME, "maxLength": length}
    return {"type": "object", "propertyNames": names, "additionalProperties": schema}


def values_schema(schema: Mapping[str, Any]) -> Schema:
    """A structural schema as JSON Schema for values: unknown fields refused, quantities as they are written in YAML.

    CEL has no form here; those rules stay the API server's.
    """
    out: Schema = {
        key: value
        for key, value in schema.items()
        if not key.startswith("x-kubernetes-") and key not in {"default", "format", "properties", "items", "anyOf"}
    }
    if schema.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    if "properties" in schema:
        out["properties"] = {name: values_schema(child) for name, child in schema["properties"].items()}
        out["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), Mapping):
        out["additionalProperties"] = values_schema(schema["additionalProperties"])
    if "items" in schema:
        out["items"] = values_schema(schema["items"])
    return out
