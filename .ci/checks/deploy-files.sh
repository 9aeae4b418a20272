#!/usr/bin/env bash
# Checks the deployment files without starting anything: systemd units, Compose files, Kubernetes manifests.
#
#   .ci/checks/deploy-files.sh
#
# A check whose tool is missing is skipped and says so. With CONNECTOR_TEST_SERVERS=required, a missing systemd-analyze
# or PyYAML (Debian: systemd, python3-yaml) is a failure. docker compose and kubectl are used only where they are
# installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() { printf '\n== %s\n' "$*"; }
skip() { # reason, Debian package
  echo "SKIPPED: $1"
  [ -z "${2-}" ] || [ "${CONNECTOR_TEST_SERVERS-}" != required ] || { echo "FAILED: install $2"; exit 1; }
}

step "systemd units"
if command -v systemd-analyze >/dev/null; then
  # Replace programs and units that this machine may lack.
  for unit in deploy/*.service; do
    sed 's#^\(Exec[A-Za-z]*\)=/usr/[a-z/]*/\(docker\|identity-connector\)\b#\1=/bin/true#' "$unit" >"$work/${unit##*/}"
  done
  printf '[Service]\nExecStart=/bin/true\n' >"$work/docker.service"
  # Some findings do not change its exit code, so check its output.
  findings=$(SYSTEMD_UNIT_PATH="$work:" systemd-analyze verify --man=no "$work"/identity-connector*.service 2>&1) || true
  findings=$(grep -F identity-connector <<<"$findings" || true)
  [ -z "$findings" ] || { echo "$findings"; exit 1; }
  # In tenths, lower is better: 2.0 or less.
  systemd-analyze security --no-pager --offline=true --threshold=20 "$work/identity-connector.service" | tail -1
else
  skip "systemd-analyze is not installed" systemd
fi

step "YAML"
# Debian's python3-yaml is installed for Debian's Python, which may not be the first one in PATH.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
if "$python" -c 'import yaml' 2>/dev/null; then
  # Every file is YAML. Every container runs without root, with a read-only root file system and without capabilities,
  # and compose.yaml, the demo, publishes its ports on loopback only.
  mapfile -t files < <(find compose.yaml deploy -name '*.yaml' -o -name '*.yml' | sort)
  "$python" - "${files[@]}" <<'PYTHON'
import sys, yaml

def contains(given, wanted):
    if not isinstance(wanted, dict): return given == wanted
    return isinstance(given, dict) and all(contains(given.get(name), value) for name, value in wanted.items())

SERVICE = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"], "privileged": None,
           "cap_add": None, "network_mode": None, "pid": None}
POD = {"automountServiceAccountToken": False, "hostNetwork": None, "hostPID": None, "hostIPC": None,
       "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532,
                           "seccompProfile": {"type": "RuntimeDefault"}}}
CONTAINER = {"securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "privileged": None,
                                 "runAsUser": None, "capabilities": {"drop": ["ALL"]}}}
wrong, pods = [], 0
for file in sys.argv[1:]:
    documents = list(yaml.safe_load_all(open(file, encoding="utf-8")))
    print(f"{file}: {len(documents)}")
    for document in documents:
        if file in ("compose.yaml", "deploy/compose.yaml"):
            services = document["services"].items()
            wrong += [f"{file}: {name}" for name, service in services if not contains(service, SERVICE)]
        if file == "compose.yaml":
            ports = [port for service in document["services"].values() for port in service["ports"]]
            wrong += [f"{file}: port {port}" for port in ports if not port.startswith("127.0.0.1:")]
        pod = (document or {}).get("spec", {}).get("template", {}).get("spec")
        if pod:
            pods += 1
            wrong += [] if contains(pod, POD) else [f"{file}: pod"]
            containers = pod["containers"] + pod.get("initContainers", [])
            wrong += [f"{file}: {c['name']}" for c in containers if not contains(c, CONTAINER)]
assert pods == 2, pods
assert not wrong, f"not restricted: {wrong}"
PYTHON
else
  skip "python3 has no yaml module" python3-yaml
fi

step "PrometheusRule"
deploy/kubernetes/monitoring/update.sh --check
echo "up to date with deploy/alerts.yml"

step "Compose"
if docker compose version >/dev/null 2>&1; then
  docker compose -f compose.yaml config --quiet
  docker compose -f deploy/compose.yaml config --quiet
  docker compose -f deploy/compose.yaml -f deploy/compose.shoppers.yaml config --quiet
  echo "compose.yaml, deploy/compose.yaml, deploy/compose.shoppers.yaml"
else
  skip "docker compose is not installed"
fi

step "Kustomize"
if kubectl version --client >/dev/null 2>&1; then
  for folder in deploy/kubernetes deploy/kubernetes/monitoring; do
    kubectl kustomize "$folder" >"$work/resources"
    echo "$folder: $(grep -c '^kind: ' "$work/resources") resources"
  done
else
  skip "kubectl is not installed"
fi
