#!/usr/bin/env bash
# Tests the files of this folder (with testbed.sh): gates scan through nginx while connectors are killed and restarted.
# Usage: deploy/check.sh [binary]     Needs PostgreSQL, redis-server or valkey-server, nginx, openssl, curl.
set -euo pipefail
connector=$(realpath "${1:-${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/release/identity-connector}")
settings=(CONNECTOR__RATE_LIMIT__REQUESTS_PER_SECOND=1)
. "$(dirname "$0")/testbed.sh"

url=https://localhost:$https/v1/identity/identity-keys
request() { curl -sS --cacert "$work/secrets/tls_certificate" -H "X-Api-Key: ${key-$api_key}" -w ' %{http_code}' "$@"; }
gate() { # one scan with a new event, as a gate of Amazon sends it; the log has its attempts
  SSL_CERT_FILE=$work/secrets/tls_certificate CONNECTOR_API_KEY=$api_key \
    "$connector" gate --json --url "https://localhost:$https" --key a-badge "$@" >>"$work/gates.log"
}
gates() { # seconds: four gates at once, each sends one scan after the other
  local end=$((SECONDS + $1)) gates=() failed=0
  for _ in 1 2 3 4; do
    (while [ $SECONDS -lt $end ]; do gate || exit 1; done) & gates+=($!)
  done
  for pid in "${gates[@]}"; do wait "$pid" || failed=1; done
  return $failed
}

say "nginx refuses a wrong API key; its own errors have the connector's form"
[[ $(key=another request -d '{}' "$url") == '{"message":"Unauthorized"} 401' ]]
[[ $(request -d '{}' "$url") == '{"message":"Invalid request body"} 400' ]]
[[ $(request "$url") == *'405' ]]
[[ $(request -d '{}' "https://localhost:$https/metrics") == '{"message":"Not found"} 404' ]]
head -c 2000000 /dev/zero >"$work/long"
[[ $(request --data-binary "@$work/long" "$url") == '{"message":"Invalid request body"} 400' ]]

say "the rate limit counts the address before the trusted proxies"
request -H 'X-Forwarded-For: 198.51.100.7' -d '{}' "$url" >/dev/null
counted=$(REDISCLI_AUTH=$(cut -d' ' -f2 "$work/secrets/valkey_conf") "${redis%-server}-cli" -p "$cache" --scan)
[[ $counted == *198.51.100.7* ]] # 127.0.0.1 is a trusted proxy here, so the address before it counts

say "gates open while a connector is killed and started again"
gates 6 & under_way=$!
sleep 1; end KILL connector-1
sleep 2; serve 1
wait $under_way
until_true 30 ready 1

say "gates open while a connector is stopped, as for an upgrade"
gates 5 & under_way=$!
sleep 1; end TERM connector-2
sleep 1; serve 2
wait $under_way
until_true 30 ready 2

say "gates open, at the second attempt, while a connector is suspended"
gates 5 & under_way=$!
sleep 1; kill -STOP "${pids[connector-1]}"; sleep 3; end CONT connector-1
wait $under_way

say "without any connector, nginx answers 500 at once, in the connector's form"
for n in 1 2; do end KILL "connector-$n"; done
[[ $(request -m 1 -d '{}' "$url") == '{"message":"Internal server error"} 500' ]]

again=$(grep -c '"attempts":\[{[^]]*},{' "$work/gates.log" || true)
echo "$(wc -l <"$work/gates.log") scans, all opened; $again of them at a later attempt. Upstream status in nginx:"
grep -o '"upstreamStatus":"[^"]*"' "$work/access.log" | cut -d: -f2 | sort | uniq -c
