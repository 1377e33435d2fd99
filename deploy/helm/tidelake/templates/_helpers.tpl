{{/* A node's name has at most 64 characters: this, a component and what a Deployment adds. */}}
{{- define "tidelake.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 36 | trimSuffix "-" -}}
{{- else if contains "tidelake" .Release.Name -}}
{{- .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-tidelake" .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidelake.selector" -}}
app.kubernetes.io/name: tidelake
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidelake.labels" -}}
{{ include "tidelake.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "tidelake.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "tidelake.fullname" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{- define "tidelake.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The components that there are, with their roles. */}}
{{- define "tidelake.components" -}}
{{- if eq .Values.mode "single" -}}
single: ""
{{- else -}}
ingester: ingest
querier: query
compactor: compact
{{- end -}}
{{- end -}}

{{/* The component that takes writes, and the one that answers queries. */}}
{{- define "tidelake.writer" -}}{{ ternary "single" "ingester" (eq .Values.mode "single") }}{{- end -}}
{{- define "tidelake.reader" -}}{{ ternary "single" "querier" (eq .Values.mode "single") }}{{- end -}}

{{/* What must be said, or would fail only when pods start. */}}
{{- define "tidelake.check" -}}
{{- if not .Values.store.url -}}
{{- fail "store.url is required: s3://bucket/prefix" -}}
{{- end -}}
{{- if and .Values.auth.enabled (not .Values.auth.adminTokenSecret) -}}
{{- fail "auth.adminTokenSecret is required with auth.enabled: kubectl create secret generic tidelake-admin --from-literal=token=$(openssl rand -hex 32)" -}}
{{- end -}}
{{- if and .Values.tls.secret (or (eq .Values.mode "cluster") (gt (int .Values.single.replicas) 1)) -}}
{{- fail "tls.secret is for one process: several call each other by addresses that a certificate does not name; end TLS at the ingress" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.readHost) -}}
{{- fail "ingress.readHost is required with ingress.enabled" -}}
{{- end -}}
{{- end -}}

{{/* A number of values.yaml as it was written: Helm has large ones as 1e+10. */}}
{{- define "tidelake.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* Flags that say where the store is, and the variables with the keys to it. */}}
{{- define "tidelake.storeArgs" -}}
- --store={{ .Values.store.url }}
{{- with .Values.store.endpoint }}
- --s3-endpoint={{ . }}
{{- end }}
{{- if .Values.store.allowHttp }}
- --s3-allow-http
{{- end }}
{{- end -}}
{{- define "tidelake.storeEnv" -}}
{{- with .Values.store.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.store.credentialsSecret }}
{{- range $key := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $key }}
  valueFrom:
    secretKeyRef: { name: {{ $.Values.store.credentialsSecret }}, key: {{ $key }} }
{{- end }}
{{- end }}
{{- end -}}

{{- define "tidelake.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "tidelake.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* The pod of a component: (dict "root" $ "component" "ingester" "roles" "ingest" "host" HOST). */}}
{{- define "tidelake.pod" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .component -}}
{{- $full := include "tidelake.fullname" $root -}}
{{- $writer := eq .component (include "tidelake.writer" $root) -}}
{{- $reader := eq .component (include "tidelake.reader" $root) -}}
{{- $hosts := list -}}
{{- range list "write" "read" -}}
{{- $name := printf "%s-%s.%s" $full . $root.Release.Namespace -}}
{{- $hosts = concat $hosts (list $name (printf "%s.svc" $name) (printf "%s.svc.%s" $name $root.Values.clusterDomain)) -}}
{{- end -}}
{{- range list $root.Values.ingress.readHost $root.Values.ingress.writeHost -}}
{{- if . -}}{{- $hosts = append $hosts . -}}{{- end -}}
{{- end -}}
metadata:
  labels:
    {{- include "tidelake.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  {{- with $values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "tidelake.serviceAccount" $root }}
  automountServiceAccountToken: false
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- include "tidelake.podSecurity" $root | nindent 4 }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- if $values.affinity }}
  affinity: {{- toYaml $values.affinity | nindent 4 }}
  {{- else }}
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "tidelake.selector" $root | nindent 16 }}
                app.kubernetes.io/component: {{ .component }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: tidelake
      image: {{ include "tidelake.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        - serve
        {{- include "tidelake.storeArgs" $root | nindent 8 }}
        - --data-dir=/var/lib/tidelake
        - --node=$(POD_NAME)
        - --listen=0.0.0.0:7070
        - --advertise={{ .host }}:7070
        - --lease-ms={{ int64 $root.Values.leaseMs }}
        {{- with .roles }}
        - --roles={{ . }}
        {{- end }}
        - --pg-listen={{ if and $reader $root.Values.postgres.enabled }}0.0.0.0:5433{{ end }}
        - --cache-bytes={{ mul (int64 $values.cacheGiB) 1073741824 }}
        - --allowed-hosts={{ join "," (append $hosts .host) }}
        {{- if $root.Values.auth.enabled }}
        - --auth=true
        - --insecure-no-auth=false
        - --admin-token-file=/etc/tidelake/auth/{{ $root.Values.auth.adminTokenKey }}
        {{- else }}
        - --auth=false
        - --insecure-no-auth=true
        {{- end }}
        {{- if $root.Values.tls.secret }}
        - --tls-cert=/etc/tidelake/tls/tls.crt
        - --tls-key=/etc/tidelake/tls/tls.key
        {{- end }}
        {{- range $values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom: { fieldRef: { fieldPath: metadata.name } }
        - name: POD_IP
          valueFrom: { fieldRef: { fieldPath: status.podIP } }
        {{- with include "tidelake.storeEnv" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- range $key, $value := $root.Values.settings }}
        - name: TIDELAKE_{{ upper $key }}
          value: {{ include "tidelake.scalar" $value | quote }}
        {{- end }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - { name: http, containerPort: 7070 }
        {{- if and $reader $root.Values.postgres.enabled }}
        - { name: postgres, containerPort: 5433 }
        {{- end }}
      {{- $scheme := ternary "HTTPS" "HTTP" (ne $root.Values.tls.secret "") }}
      # A start that replays a log is alive long before it is ready.
      startupProbe:
        httpGet: { path: /health, port: http, scheme: {{ $scheme }} }
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /health, port: http, scheme: {{ $scheme }} }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /ready, port: http, scheme: {{ $scheme }} }
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      # Services learn that a pod goes while it still answers.
      lifecycle:
        preStop:
          exec: { command: [sleep, "5"] }
      resources: {{- toYaml $values.resources | nindent 8 }}
      securityContext: {{- include "tidelake.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - { name: data, mountPath: /var/lib/tidelake }
        - { name: tmp, mountPath: /tmp }
        {{- if $root.Values.auth.enabled }}
        - { name: auth, mountPath: /etc/tidelake/auth, readOnly: true }
        {{- end }}
        {{- if $root.Values.tls.secret }}
        - { name: tls, mountPath: /etc/tidelake/tls, readOnly: true }
        {{- end }}
  volumes:
    # A cache only: what must last is in the bucket.
    - name: data
      emptyDir: { sizeLimit: {{ add 1 (div (mul 5 (int64 $values.cacheGiB)) 4) }}Gi }
    - name: tmp
      emptyDir: { sizeLimit: 1Gi }
    {{- if $root.Values.auth.enabled }}
    - name: auth
      secret:
        secretName: {{ $root.Values.auth.adminTokenSecret }}
        defaultMode: 0440
        items: [{ key: {{ $root.Values.auth.adminTokenKey }}, path: {{ $root.Values.auth.adminTokenKey }} }]
    {{- end }}
    {{- if $root.Values.tls.secret }}
    - name: tls
      secret: { secretName: {{ $root.Values.tls.secret }}, defaultMode: 0440 }
    {{- end }}
{{- end -}}
