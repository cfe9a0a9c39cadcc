{{- /* Generated from operator/npc_operator by `make generate`; do not edit. */ -}}

{{- define "npc-region.rights" -}}
# credentials referred to, and ours
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
{{- end -}}
