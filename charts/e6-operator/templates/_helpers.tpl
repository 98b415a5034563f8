{{/* Prefix of all names: the name of the Helm release, cut to 44 characters. With the longest suffix a Service's name has 63. */}}
{{- define "e6.prefix" -}}
{{- .Release.Name | trunc 44 | trimSuffix "-" }}
{{- end }}

{{- define "e6.manager" -}}
{{ include "e6.prefix" . }}-controller-manager
{{- end }}

{{- define "e6.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "e6.manager" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* Name of the ClusterRole. The release e6-operator has the name of the upgrade guide. Other releases need other names. */}}
{{- define "e6.role" -}}
{{- if eq .Release.Name "e6-operator" -}}
metadataservices-operator-manager-role
{{- else -}}
{{ include "e6.prefix" . }}-metadataservices-manager-role
{{- end }}
{{- end }}

{{/* A Deployment's selector is immutable, so it is the same in all versions and for all ways of installation. */}}
{{- define "e6.selector" -}}
control-plane: controller-manager
app.kubernetes.io/name: e6-operator
{{- end }}

{{- define "e6.labels" -}}
{{ include "e6.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion }}
app.kubernetes.io/part-of: e6data
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Image of the operator. The tag may be a YAML integer. The schema refuses a fraction, because YAML drops its final zeros. */}}
{{- define "e6.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion }}
{{- if kindIs "float64" $tag }}{{ $tag = int64 $tag }}{{ end }}
{{- .Values.image.repository }}:{{ $tag }}
{{- end }}

{{/* Refuses contradicting values before Helm creates an object. */}}
{{- define "e6.check" -}}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.leaderElection.enabled) }}
{{- fail "replicaCount is more than 1 with leaderElection.enabled=false: several operators would act at the same time. Set replicaCount=1, or leaderElection.enabled=true." }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create is false and serviceAccount.name is empty: name the ServiceAccount of the operator." }}
{{- end }}
{{- if eq (int .Values.metrics.port) 8081 }}
{{- fail "metrics.port is 8081, the port of the probes: choose another port." }}
{{- end }}
{{- include "e6.checkSecond" . }}
{{- end }}

{{/* Refuses a second operator for the same resources. `helm template` reads no cluster, so it does not check this. */}}
{{- define "e6.checkSecond" -}}
{{- range (lookup "apps/v1" "Deployment" .Release.Namespace "").items }}
{{- $labels := .metadata.labels | default dict }}
{{- if and (eq (get $labels "control-plane") "controller-manager") (eq (get $labels "app.kubernetes.io/name") "e6-operator") (ne .metadata.name (include "e6.manager" $)) }}
{{- fail (printf "the namespace %s holds an E6 Operator already, Deployment %s: install this release into another namespace, or uninstall the other release." $.Release.Namespace .metadata.name) }}
{{- end }}
{{- end }}
{{- if and .Values.rbac.create (not .Values.allowSecondRelease) }}
{{- $wide := empty .Values.watchNamespaces }}
{{- $others := list }}
{{- $asBefore := false }}
{{- range (lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "").items }}
{{- if eq (get (.metadata.labels | default dict) "app.kubernetes.io/name") "e6-operator" }}
{{- $everywhere := false }}
{{- range .rules }}{{ if has "metadataservices" (.resources | default list) }}{{ $everywhere = true }}{{ end }}{{ end }}
{{- if eq .metadata.name (include "e6.role" $) }}
{{- $asBefore = eq $everywhere $wide }}
{{- else if or $wide $everywhere }}
{{- $others = append $others .metadata.name }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $others (not $asBefore) }}
{{- fail (printf "this cluster has an E6 Operator already, ClusterRole %s: two operators must not manage the same resources. Set watchNamespaces in both releases to different namespaces. Or set allowSecondRelease=true if the other operator manages other namespaces." (first $others)) }}
{{- end }}
{{- end }}
{{- end }}
