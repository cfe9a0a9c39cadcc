{{- define "npc-region.name" -}}
{{- .Values.name | default .Release.Name -}}
{{- end -}}

{{- define "npc-region.labels" -}}
{{- $ours := dict
  "app.kubernetes.io/name" "npc-region"
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/part-of" "npc-fleet"
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version)
-}}
{{- $ours | mergeOverwrite (deepCopy .Values.labels) | toYaml -}}
{{- end -}}

{{- define "npc-region.keysSecret" -}}
{{- printf "%s-api-keys" (include "npc-region.name" .) -}}
{{- end -}}

{{- /* "yes" if this chart makes the Secret with the API keys: they are wanted and nobody named another one. */ -}}
{{- define "npc-region.makesKeys" -}}
{{- $auth := dig "gateway" "auth" (dict) .Values.region -}}
{{- if and (ne ($auth.mode | default "ApiKey") "None") (not $auth.secretRef) -}}yes{{- end -}}
{{- end -}}
