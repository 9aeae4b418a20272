#!/usr/bin/env bash
# Writes prometheus-rule.yaml: deploy/alerts.yml inside a PrometheusRule. Run it after each change of alerts.yml.
# Usage: update.sh [--check]     --check only compares, and exits with 1 if they differ
set -euo pipefail
cd "$(dirname "$0")"

rule() {
  cat <<'YAML'
# Made from deploy/alerts.yml by update.sh. Do not edit: change alerts.yml, and run update.sh.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: identity-connector
spec:
YAML
  sed -n '/^groups:/,$ { s/^/  /; s/ *$//; p }' ../../alerts.yml
}

if [ "${1-}" = --check ]; then
  diff -u prometheus-rule.yaml <(rule) || { echo "deploy/kubernetes/monitoring/prometheus-rule.yaml is out of date: run update.sh"; exit 1; }
else
  rule >prometheus-rule.yaml
fi
