{{- /* Generated from operator/npc_operator by `make generate`; do not edit. */ -}}

{{- define "npc-operator.rights.watched" -}}
# what users want
- apiGroups: [npcfleet.dev]
  resources: [archetypeadapters]
  verbs: [get, list, watch]
# what users want
- apiGroups: [npcfleet.dev]
  resources: [gputiers]
  verbs: [get, list, watch]
# what users want
- apiGroups: [npcfleet.dev]
  resources: [npcregions]
  verbs: [get, list, watch]
# to say what was seen
- apiGroups: [npcfleet.dev]
  resources: [archetypeadapters/status]
  verbs: [get, patch]
# to say what was seen
- apiGroups: [npcfleet.dev]
  resources: [gputiers/status]
  verbs: [get, patch]
# to say what was seen
- apiGroups: [npcfleet.dev]
  resources: [npcregions/status]
  verbs: [get, patch]
# owner references that block deletion
- apiGroups: [npcfleet.dev]
  resources: [archetypeadapters/finalizers]
  verbs: [update]
# owner references that block deletion
- apiGroups: [npcfleet.dev]
  resources: [gputiers/finalizers]
  verbs: [update]
# owner references that block deletion
- apiGroups: [npcfleet.dev]
  resources: [npcregions/finalizers]
  verbs: [update]
# engines, gateways and gates; how far an interruption is
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
# engine pods whose node goes away, as budgets allow
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# children of tiers and regions
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# children of tiers and regions
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# gates: users' own tests of candidates
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# children of tiers and regions
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# children of tiers and regions
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# to say what happened
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{- define "npc-operator.rights.server" -}}
# callers that prove themselves with service account tokens
- nonResourceURLs: [/.well-known/openid-configuration, /openid/v1/jwks]
  verbs: [get]
{{- end -}}

{{- define "npc-operator.rights.nodes" -}}
# nodes that go away: taints, conditions, cordons
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
{{- end -}}

{{- define "npc-operator.rights.pools" -}}
# the finalizer of tiers with nodes of their own
- apiGroups: [npcfleet.dev]
  resources: [gputiers]
  verbs: [patch]
# nodePools.provider.karpenter
- apiGroups: [karpenter.sh]
  resources: [nodepools]
  verbs: [get, list, create, patch, delete]
# nodePools.headroomReplicas
- apiGroups: [autoscaling.x-k8s.io]
  resources: [capacitybuffers]
  verbs: [get, list, create, patch, delete]
{{- end -}}

{{- define "npc-operator.rights.own" -}}
# leader election
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
{{- end -}}

{{- define "npc-operator.rights.view" -}}
# what is wanted and how it is
- apiGroups: [npcfleet.dev]
  resources: [archetypeadapters]
  verbs: [get, list, watch]
# what is wanted and how it is
- apiGroups: [npcfleet.dev]
  resources: [gputiers]
  verbs: [get, list, watch]
# what is wanted and how it is
- apiGroups: [npcfleet.dev]
  resources: [npcregions]
  verbs: [get, list, watch]
# how many replicas are wanted
- apiGroups: [npcfleet.dev]
  resources: [gputiers/scale]
  verbs: [get]
{{- end -}}

{{- define "npc-operator.rights.edit" -}}
# to say what is wanted
- apiGroups: [npcfleet.dev]
  resources: [archetypeadapters]
  verbs: [create, update, patch, delete, deletecollection]
# to say what is wanted
- apiGroups: [npcfleet.dev]
  resources: [gputiers]
  verbs: [create, update, patch, delete, deletecollection]
# to say what is wanted
- apiGroups: [npcfleet.dev]
  resources: [npcregions]
  verbs: [create, update, patch, delete, deletecollection]
# kubectl scale and autoscalers
- apiGroups: [npcfleet.dev]
  resources: [gputiers/scale]
  verbs: [update, patch]
{{- end -}}
