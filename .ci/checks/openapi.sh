#!/usr/bin/env bash
# Schemathesis calls every operation of the OpenAPI document on a running demo, with valid and invalid requests. Fails
# unless every answer is as documented and none is a 5xx. Takes about two minutes.
#
#   .ci/checks/openapi.sh [BINARY]
#
# Needs curl, python3 with venv (Debian: python3-venv) and PyPI.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
connector=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/release/identity-connector}")
work=$(mktemp -d)
pid=''
trap 'kill $pid 2>/dev/null || true; wait; rm -rf "$work"' EXIT

python=/usr/bin/python3
[ -x "$python" ] || python=python3
tool=$root/target/schemathesis
"$python" -m venv "$tool"
"$tool/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5

token=a-token-of-the-check
env CONNECTOR__SERVER__BIND=127.0.0.1:0 CONNECTOR__MANAGEMENT__BIND=127.0.0.1:0 CONNECTOR__LOG__FORMAT=json \
  CONNECTOR__MANAGEMENT__TOKEN=$token CONNECTOR__RATE_LIMIT__REQUESTS_PER_SECOND=1000000 CONNECTOR__RATE_LIMIT__BURST=1000000 \
  CONNECTOR__COMMERCE__REQUESTS_PER_SECOND=1000000 CONNECTOR__COMMERCE__BURST=1000000 "$connector" demo >/dev/null 2>"$work/log" &
pid=$!
until grep -q '"message":"ready"' "$work/log"; do kill -0 $pid; sleep 0.05; done
read -r api management < <(sed -n 's/.*"message":"ready","api":"\([^"]*\)","management":"\([^"]*\)".*/http:\/\/\1 http:\/\/\2/p' "$work/log")

member() { sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
bearer=$(curl -sf "$api/demo/sign-in" -d '{"shopper": "shopper-uuid-001"}' | member accessToken)
context=$(curl -sf -H "Authorization: Bearer $bearer" "$api/commerceapi/authentication/customercontext" | member customerContext)

cd "$work" # schemathesis writes files to the current folder
check() { # tag, URL, headers
  local tag=$1 url=$2
  shift 2
  "$tool/bin/schemathesis" --config-file "$root/.ci/checks/schemathesis.toml" run "$root/docs/openapi.json" --url "$url" --include-tag "$tag" \
    --phases examples,coverage,fuzzing --max-examples 50 --continue-on-failure --no-color "$@"
}
check gate "$api"
# In this order: the last one erases the shopper.
check shopper "$api" -H "Authorization: Bearer $bearer" -H "X-Customer-Context: $context" -H 'X-Auth-Key: demo-authorization-key'
for tag in operations administration; do check $tag "$management" -H "Authorization: Bearer $token"; done
