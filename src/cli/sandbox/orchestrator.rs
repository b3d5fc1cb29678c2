//! What Kubernetes is told.
//!
//! Owns the manifest. Invariants: it meets the restricted level of the pod security standards; one server has the data, for
//! the store has one writer.

use crate::sandbox::UNPRIVILEGED_ID;

/// The manifest, for `kubectl apply -f`.
pub(super) fn manifest() -> String {
    MANIFEST.replace("@ID@", &UNPRIVILEGED_ID.to_string())
}

const MANIFEST: &str = r#"# Made by `quantonium sandbox profile kubernetes`.
#
#   kubectl create namespace quantonium
#   kubectl label namespace quantonium pod-security.kubernetes.io/enforce=restricted
#   (umask 077; head -c 32 /dev/urandom > master.key) && kubectl -n quantonium create secret generic quantonium-master-key --from-file=master.key
#   kubectl -n quantonium apply -f kubernetes.yaml
#
# docker-seccomp.json must lie on each node as /var/lib/kubelet/seccomp/profiles/quantonium.json; where it cannot, take
# `type: RuntimeDefault` in its place: the server's own filters are narrower in any case. Put the digest of your image in.
# Without a certificate the port speaks plain HTTP: leave it inside of the cluster and end TLS in front of it, or mount a
# certificate and set QUANTONIUM_TLS_CERT and QUANTONIUM_TLS_KEY.
#
# Linux 6.12 or newer gives every step whole. On an older one Landlock holds less (before 6.7 no TCP, before 6.12 no signals), and
# keys lie in locked memory that root can read (before 6.5 without secretmem.enable=1): the server says `partial` and serves.
# Without any Landlock (before 5.13, or left out of the kernel's lsm= list), or where no memory may be locked, it ends with exit
# code 78 until that is accepted by more words in `args`, for each that is missing:
# "--sandbox-allow-missing", "landlock", "--sandbox-allow-missing", "key-memory"
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: quantonium
  labels:
    app.kubernetes.io/name: quantonium
spec:
  serviceName: quantonium
  replicas: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: quantonium
  template:
    metadata:
      labels:
        app.kubernetes.io/name: quantonium
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      hostNetwork: false
      hostPID: false
      hostIPC: false
      terminationGracePeriodSeconds: 30
      securityContext:
        runAsNonRoot: true
        runAsUser: @ID@
        runAsGroup: @ID@
        fsGroup: @ID@
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile:
          type: Localhost
          localhostProfile: profiles/quantonium.json
      containers:
        - name: quantonium
          image: registry.example.net/quantonium@sha256:0000000000000000000000000000000000000000000000000000000000000000
          args: ["serve", "--init", "--sandbox", "container"]
          env:
            - name: QUANTONIUM_DATA_DIR
              value: /data/store
            - name: QUANTONIUM_MASTER_KEY_FILE
              value: /run/secrets/quantonium/master.key
            - name: QUANTONIUM_LISTEN
              value: 0.0.0.0:8080
            - name: QUANTONIUM_INSECURE_HTTP
              value: "true"
          ports:
            - name: http
              containerPort: 8080
              protocol: TCP
          securityContext:
            allowPrivilegeEscalation: false
            privileged: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: ["ALL"]
          resources:
            requests:
              cpu: 100m
              memory: 128Mi
            limits:
              cpu: "2"
              memory: 128Mi
          startupProbe:
            exec:
              command: ["/quantonium", "healthcheck"]
            periodSeconds: 1
            failureThreshold: 30
            timeoutSeconds: 4
          livenessProbe:
            httpGet:
              path: /api/health/live
              port: http
            periodSeconds: 10
            timeoutSeconds: 3
          readinessProbe:
            httpGet:
              path: /api/health/ready
              port: http
            periodSeconds: 5
            timeoutSeconds: 3
          volumeMounts:
            - name: data
              mountPath: /data
            - name: master-key
              mountPath: /run/secrets/quantonium
              readOnly: true
      volumes:
        - name: master-key
          secret:
            secretName: quantonium-master-key
            defaultMode: 0440
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: ["ReadWriteOnce"]
        resources:
          requests:
            storage: 1Gi
---
apiVersion: v1
kind: Service
metadata:
  name: quantonium
  labels:
    app.kubernetes.io/name: quantonium
spec:
  selector:
    app.kubernetes.io/name: quantonium
  ports:
    - name: http
      port: 8080
      targetPort: http
      protocol: TCP
---
# Who may ask: pods of this namespace that are labelled for it. The kubelet's probes come from the node, which no policy keeps
# out. The server itself calls nobody.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: quantonium
  labels:
    app.kubernetes.io/name: quantonium
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: quantonium
  policyTypes: ["Ingress", "Egress"]
  ingress:
    - from:
        - podSelector:
            matchLabels:
              quantonium-client: "true"
      ports:
        - port: http
          protocol: TCP
  egress: []
---
# One server has the store, so that an eviction is a stop of seconds. It is allowed: a budget of none would hold up every
# drain of its node.
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: quantonium
  labels:
    app.kubernetes.io/name: quantonium
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: quantonium
"#;
