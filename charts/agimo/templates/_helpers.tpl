{{- define "agimo.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of the release, followed by the chart name unless it contains it. 57 characters leave room for "-admin". */}}
{{- define "agimo.fullname" -}}
{{- $name := include "agimo.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 57 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 57 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 57 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* For objects outside the namespace of the release, where another release may have the same name. */}}
{{- define "agimo.foreignName" -}}
{{- printf "%s-%s" .Release.Namespace (include "agimo.fullname" .) -}}
{{- end -}}

{{- define "agimo.selectorLabels" -}}
app.kubernetes.io/name: {{ include "agimo.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "agimo.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "agimo.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "agimo.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "agimo.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "agimo.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "agimo.configMapName" -}}
{{- default (include "agimo.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{/* "yes" if agimo uses the Kubernetes API. */}}
{{- define "agimo.usesKubernetes" -}}
{{- if ne .Values.readiness "prometheus" -}}yes{{- end -}}
{{- end -}}

{{/* The configuration: without one, annotated workloads are services. The certificates are added to it. */}}
{{- define "agimo.config" -}}
{{- if trim .Values.config -}}
{{- .Values.config -}}
{{- else if include "agimo.usesKubernetes" . -}}
annotations = true
{{ end -}}
{{- end -}}

{{/* The tables of the certificates. */}}
{{- define "agimo.certificates" -}}
{{- range (include "agimo.tlsSecrets" . | fromJsonArray) }}

[[tls]]
certificate = "/etc/agimo-tls/{{ . }}/tls.crt"
key = "/etc/agimo-tls/{{ . }}/tls.key"
{{- end }}
{{- end -}}

{{/* The Secrets with certificates for clients, as a JSON array; empty where clients are not served over TLS. */}}
{{- define "agimo.tlsSecrets" -}}
{{- if and .Values.tls.extraSecrets (not .Values.tls.existingSecret) -}}
{{- fail "\n\n`tls.extraSecrets` needs tls.existingSecret, whose certificate serves all other hosts.\n" -}}
{{- end -}}
{{- if .Values.tls.existingSecret -}}
{{- prepend .Values.tls.extraSecrets .Values.tls.existingSecret | uniq | toJson -}}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{/* The ConfigMap that keeps the replicas of sleeping workloads; empty where agimo does not scale. */}}
{{- define "agimo.replicaStore" -}}
{{- if and .Values.scaling.enabled (include "agimo.usesKubernetes" .) -}}
{{- include "agimo.fullname" . }}-replicas
{{- end -}}
{{- end -}}

{{/* The Secret with the tokens of the exchange between the replicas. */}}
{{- define "agimo.peerSecret" -}}
{{- default (printf "%s-peers" (include "agimo.fullname" .)) .Values.peers.existingSecret -}}
{{- end -}}

{{/* drainTimeout in seconds. */}}
{{- define "agimo.drainSeconds" -}}
{{- $units := dict "h" 3600 "m" 60 "s" 1 -}}
{{- $total := 0 -}}
{{- range $part := regexFindAll "[0-9]+[hms]" .Values.drainTimeout -1 -}}
{{- $unit := $part | trunc -1 -}}
{{- $total = add $total (mul (atoi (trimSuffix $unit $part)) (get $units $unit)) -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{- define "agimo.terminationGracePeriodSeconds" -}}
{{- $needed := add (int .Values.preStopSleepSeconds) (include "agimo.drainSeconds" . | atoi) -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add $needed 5 -}}
{{- else -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $needed) -}}
{{- fail (printf "\n\nterminationGracePeriodSeconds is %d, but preStopSleepSeconds and drainTimeout need %d: pods would be killed while they drain. Leave it empty, or reduce drainTimeout.\n" (int .Values.terminationGracePeriodSeconds) $needed) -}}
{{- end -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* The permissions of agimo in each watched namespace. */}}
{{- define "agimo.rules" -}}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [services, pods]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [list, watch]
# To report why a pod does not start, and when its image was pulled.
- apiGroups: [""]
  resources: [events]
  verbs: [list, watch]
# To find its place beside other scalers (scaler = "auto").
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [list, watch]
# To tell the owner of a workload who scales it, and what disturbs that.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if .Values.scaling.enabled }}
- apiGroups: [apps]
  resources: [deployments/scale, statefulsets/scale]
  verbs: [get, patch]
{{- end }}
{{- end -}}
