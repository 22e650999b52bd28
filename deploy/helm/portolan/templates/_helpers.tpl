{{- define "portolan.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters: suffixes of up to 13 follow, and a name has 63. */}}
{{- define "portolan.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "portolan.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "portolan.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "portolan.selector" -}}
app.kubernetes.io/name: {{ include "portolan.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "portolan.labels" -}}
{{ include "portolan.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "portolan.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "portolan.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "portolan.image" -}}
{{- $repository := required "image.repository: where is your image of portolan?" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "portolan.memberSan" -}}
{{- if and (hasPrefix "*" .Values.mesh.memberSan) (ne .Values.mesh.source "existing") -}}
{{- fail "mesh.memberSan: is the name in the certificate that is made here, so no pattern" -}}
{{- end -}}
{{- default (printf "member.%s.%s.svc" (include "portolan.fullname" .) .Release.Namespace) .Values.mesh.memberSan -}}
{{- end -}}

{{- define "portolan.meshSecret" -}}
{{- if eq .Values.mesh.source "existing" -}}
{{- required "mesh.existingSecret: which Secret has ca.crt, tls.crt and tls.key?" .Values.mesh.existingSecret -}}
{{- else -}}
{{ include "portolan.fullname" . }}-mesh
{{- end -}}
{{- end -}}

{{- define "portolan.tlsSecret" -}}
{{- if eq .Values.tls.source "existing" -}}
{{- required "tls.existingSecret: which Secret has tls.crt and tls.key?" .Values.tls.existingSecret -}}
{{- else -}}
{{ include "portolan.fullname" . }}-tls
{{- end -}}
{{- end -}}

{{- define "portolan.hashKeySecret" -}}
{{- default (printf "%s-hash-key" (include "portolan.fullname" .)) .Values.hashKey.existingSecret -}}
{{- end -}}

{{/* What follows from values that are not the configuration's. */}}
{{- define "portolan.added" -}}
cluster:
  hashKey: {file: /etc/portolan/hash-key/hashKey}
  tls:
    cacert: /etc/portolan/mesh/ca.crt
    cert: /etc/portolan/mesh/tls.crt
    key: /etc/portolan/mesh/tls.key
    memberSan: {{ include "portolan.memberSan" . }}
{{- if or .Values.htpasswd.existingSecret (ne .Values.tls.source "none") }}
http:
  {{- if ne .Values.tls.source "none" }}
  tls:
    cert: /etc/portolan/tls/tls.crt
    key: /etc/portolan/tls/tls.key
  {{- end }}
  {{- if .Values.htpasswd.existingSecret }}
  auth:
    htpasswd:
      path: /etc/portolan/htpasswd/{{ .Values.htpasswd.key }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* JSON, for YAML would make 5.36870912e+10 of a number as large as 50 GiB. */}}
{{- define "portolan.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if dig "cluster" "members" list $config -}}
{{- fail "config.cluster.members: members come and go here, by mesh.memberSan: leave the list out" -}}
{{- end -}}
{{- if dig "cluster" "hashKey" "" $config -}}
{{- fail "config.cluster.hashKey: belongs into a Secret: hashKey.existingSecret" -}}
{{- end -}}
{{- if not $config.storage.storageDriver.bucket -}}
{{- fail "config.storage.storageDriver.bucket: which bucket?" -}}
{{- end -}}
{{- mustMergeOverwrite $config (include "portolan.added" . | fromYaml) | toPrettyJson -}}
{{- end -}}

{{/* A change of the policies counts without a restart; everything else takes one. */}}
{{- define "portolan.restartsFor" -}}
{{- $config := include "portolan.config" . | fromJson -}}
{{- if and $config.http.accessControl (dig "http" "accessControl" "repositories" dict $config) -}}
{{- $_ := set $config.http "accessControl" "is there" -}}
{{- end -}}
{{- toJson $config | sha256sum -}}
{{- end -}}

{{/* A list of the root and a path. */}}
{{- define "portolan.probe" -}}
httpGet:
  path: {{ index . 1 }}
  port: registry
  scheme: {{ include "portolan.scheme" (index . 0) | upper }}
{{- end -}}

{{- define "portolan.scheme" -}}
{{ if or (ne .Values.tls.source "none") (dig "http" "tls" "cert" "" .Values.config) }}https{{ else }}http{{ end }}
{{- end -}}
