{{/* Prefix of all names: the release. 44 characters leave room for the longest suffix in a Service's 63. */}}
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

{{/* Name of the ClusterRole: the guide's for the release e6-operator; others must not collide with it. */}}
{{- define "e6.role" -}}
{{- if eq .Release.Name "e6-operator" -}}
metadataservices-operator-manager-role
{{- else -}}
{{ include "e6.prefix" . }}-metadataservices-manager-role
{{- end }}
{{- end }}

{{/* Never changes, in no version and no install method: a Deployment's selector is immutable. */}}
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

{{/* The image. A tag that YAML takes for an integer is one all the same; a fraction would lose its zeros, and is refused. */}}
{{- define "e6.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion }}
{{- if kindIs "float64" $tag }}{{ $tag = int64 $tag }}{{ end }}
{{- .Values.image.repository }}:{{ $tag }}
{{- end }}

{{/* What makes no sense together is refused before anything is created. */}}
{{- define "e6.check" -}}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.leaderElection.enabled) }}
{{- fail "replicaCount is more than 1 with leaderElection.enabled=false: several operators would work at once. Set replicaCount=1, or leaderElection.enabled=true." }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create is false and serviceAccount.name is empty: name the ServiceAccount that the operator is to use." }}
{{- end }}
{{- if eq (int .Values.metrics.port) 8081 }}
{{- fail "metrics.port is 8081, where the probes are: choose another port." }}
{{- end }}
{{- include "e6.checkSecond" . }}
{{- end }}

{{/* Two operators must not manage the same resources. Helm looks only where it has a cluster: not in `helm template`. */}}
{{- define "e6.checkSecond" -}}
{{- range (lookup "apps/v1" "Deployment" .Release.Namespace "").items }}
{{- $labels := .metadata.labels | default dict }}
{{- if and (eq (get $labels "control-plane") "controller-manager") (eq (get $labels "app.kubernetes.io/name") "e6-operator") (ne .metadata.name (include "e6.manager" $)) }}
{{- fail (printf "the namespace %s holds an E6 Operator already, Deployment %s: install this release into a namespace of its own, or uninstall that one." $.Release.Namespace .metadata.name) }}
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
{{- fail (printf "this cluster has an E6 Operator already, ClusterRole %s: two operators must not manage the same resources. Set watchNamespaces in both releases, to different namespaces; or set allowSecondRelease=true if the other one manages other namespaces." (first $others)) }}
{{- end }}
{{- end }}
{{- end }}
