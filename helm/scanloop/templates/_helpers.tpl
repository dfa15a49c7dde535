{{- define "scanloop.labels" -}}
app.kubernetes.io/part-of: scanloop
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "scanloop.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.jobs.user }}
runAsGroup: {{ .Values.jobs.group }}
fsGroup: {{ .Values.jobs.group }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "scanloop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "scanloop.environment" -}}
- {name: SCANLOOP_WORK, value: /work}
- {name: HOME, value: /work/home}
- {name: TMPDIR, value: /tmp}
- {name: MPLCONFIGDIR, value: /tmp/matplotlib}
{{- $addresses := dict
  "SCANLOOP_STORE_URL" .Values.store.url
  "SCANLOOP_LANDING_URL" .Values.store.landingUrl
  "SCANLOOP_LANDING_QUEUE_URL" .Values.store.landingQueueUrl
  "SCANLOOP_CHANNEL_URL" .Values.store.channelUrl
  "AWS_ENDPOINT_URL" .Values.store.endpointUrl
  "AWS_DEFAULT_REGION" .Values.store.region
  "CLEARML_API_HOST" .Values.tracking.apiHost
  "CLEARML_WEB_HOST" .Values.tracking.webHost
  "CLEARML_FILES_HOST" .Values.tracking.filesHost
  "SCANLOOP_LABELLING_URL" .Values.labelling.url
}}
{{- range $name, $value := merge (deepCopy .Values.extraEnv) $addresses }}
{{- if $value }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- if .Values.cache.enabled }}
- {name: SCANLOOP_CACHE, value: /cache}
{{- end }}
{{- end }}

{{- define "scanloop.dnsRule" -}}
- to:
    {{- toYaml .Values.network.dnsPeers | nindent 4 }}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{- define "scanloop.destinationRule" -}}
- to:
    {{- toYaml .peers | nindent 4 }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
