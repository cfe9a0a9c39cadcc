{{- define "npc-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "npc-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "npc-operator.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | required "serviceAccount.name is needed with serviceAccount.create false" -}}
{{- end -}}
{{- end -}}

{{- /* What picks our pods. NetworkPolicies of regions let the operator in by the first of these. */ -}}
{{- define "npc-operator.selector" -}}
app.kubernetes.io/name: npc-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "npc-operator.labels" -}}
{{ include "npc-operator.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: npc-fleet
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "npc-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "npc-operator.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 2000
runAsGroup: 2000
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "npc-operator.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Flags that both the operator and its check need. */ -}}
{{- define "npc-operator.whereFlags" -}}
- --lease-name={{ include "npc-operator.fullname" . }}
{{- range .Values.watchNamespaces }}
- --namespace={{ . }}
{{- end }}
{{- end -}}

{{- define "npc-operator.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end -}}
