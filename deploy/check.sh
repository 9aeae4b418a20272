#!/usr/bin/env bash
# What stands in this folder, tried out (stand.sh): gates scan through nginx while connectors are killed, stopped and started again.
# Usage: deploy/check.sh [binary]     Needs PostgreSQL, redis-server or valkey-server, nginx, openssl, curl.
set -euo pipefail
connector=$(realpath "${1:-${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/release/identity-connector}")
settings=(CONNECTOR__RATE_LIMIT__REQUESTS_PER_SECOND=1)
. "$(dirname "$0")/stand.sh"

url=https://localhost:$https/v1/identity/identity-keys
ask() { curl -sS --cacert "$work/secrets/tls_certificate" -H "X-Api-Key: ${key-$api_key}" -w ' %{http_code}' "$@"; }
gate() { # one scan of its own event, as Amazon's gate makes it; says with how many attempts
  SSL_CERT_FILE=$work/secrets/tls_certificate CONNECTOR_API_KEY=$api_key \
    "$connector" gate --json --url "https://localhost:$https" --key a-badge "$@" >>"$work/gates.log"
}
gates() { # seconds: four gates at once, each one scan after the other
  local end=$((SECONDS + $1)) gates=() failed=0
  for _ in 1 2 3 4; do
    (while [ $SECONDS -lt $end ]; do gate || exit 1; done) & gates+=($!)
  done
  for pid in "${gates[@]}"; do wait "$pid" || failed=1; done
  return $failed
}

say "who is not Amazon is not let in; what nginx says itself is in the connector's words"
[[ $(key=another ask -d '{}' "$url") == '{"message":"Unauthorized"} 401' ]]
[[ $(ask -d '{}' "$url") == '{"message":"Invalid request body"} 400' ]]
[[ $(ask "$url") == *'405' ]]
[[ $(ask -d '{}' "https://localhost:$https/metrics") == '{"message":"Not found"} 404' ]]
head -c 2000000 /dev/zero >"$work/long"
[[ $(ask --data-binary "@$work/long" "$url") == '{"message":"Invalid request body"} 400' ]]

say "whoever nginx heard from is charged, whatever they write"
ask -H 'X-Forwarded-For: 198.51.100.7' -d '{}' "$url" >/dev/null
charged=$(REDISCLI_AUTH=$(cut -d' ' -f2 "$work/secrets/valkey_conf") "${redis%-server}-cli" -p "$cache" --scan)
[[ $charged == *198.51.100.7* ]] # as 127.0.0.1 is a proxy here; elsewhere it is the address in front of that

say "gates open, while a connector is killed, and comes back"
gates 6 & under_way=$!
sleep 1; end KILL connector-1
sleep 2; serve 1
wait $under_way
until_true 30 ready 1

say "and while one is asked to stop, as at an upgrade"
gates 5 & under_way=$!
sleep 1; end TERM connector-2
sleep 1; serve 2
wait $under_way
until_true 30 ready 2

say "and while one stands still: the gates' second attempts open"
gates 5 & under_way=$!
sleep 1; kill -STOP "${pids[connector-1]}"; sleep 3; end CONT connector-1
wait $under_way

say "both gone: a 500 in the connector's words, at once"
for n in 1 2; do end KILL "connector-$n"; done
[[ $(ask -m 1 -d '{}' "$url") == '{"message":"Internal server error"} 500' ]]

again=$(grep -c '"attempts":\[{[^]]*},{' "$work/gates.log" || true)
echo "$(wc -l <"$work/gates.log") scans, all opened; $again of them not at the first attempt. What nginx heard:"
grep -o '"upstreamStatus":"[^"]*"' "$work/access.log" | cut -d: -f2 | sort | uniq -c
