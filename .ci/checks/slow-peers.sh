#!/usr/bin/env bash
# 2000 slow clients on the API's port, in slowhttptest's four modes and once over TLS, while gates scan. Prints the
# latency of the gates, and fails if a scan failed or was late, if slow connections stay open too long, or if the
# process opened more files than documented. Everything runs on free loopback ports and is removed at the end. Takes
# about three minutes.
#
#   [BOUND_MS=200] .ci/checks/slow-peers.sh [binary]
#
# Needs slowhttptest, curl, openssl. The time limit is for an otherwise idle machine; the first row, without slow
# clients, shows how idle this one is.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
connector=$(realpath "${1:-${CARGO_TARGET_DIR:-$here/target}/release/identity-connector}")
for need in slowhttptest curl openssl; do command -v $need >/dev/null || { echo "needs $need"; exit 1; }; done
[ -x "$connector" ] || { echo "needs $connector: cargo build --release"; exit 1; }

PEERS=2000          # slow clients, all connected within two seconds
SECONDS_LONG=25     # how long they keep sending
LET_GO=20           # maximum seconds until they are disconnected: 5 s for a handshake, 10 s for a head, idle time or answer, and a margin
BOUND_MS=${BOUND_MS:-200} # maximum 99th percentile; some scans wait until the first slow body has had its second
MAX=700             # the default of server.max_connections
FILES=$((MAX + 64 + 64 + 64 + 100)) # docs/operations.md: including connections that are closing, and the management port's
# For slowhttptest and the connector.
ulimit -n $((PEERS + 1000)) || { echo "needs a limit of $((PEERS + 1000)) open files (ulimit -Hn)"; exit 1; }

work=$(mktemp -d)
pid=
finish() {
  status=$?; set +e
  [ $status = 0 ] || { echo "FAILED"; tail -n 5 "$work"/*.log; }
  [ -z "$pid" ] || { kill -KILL "$pid"; wait "$pid"; } 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT
port() { # a free port below the range for outgoing connections
  local port
  while port=$((15000 + RANDOM % 15000)); (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; do :; done
  echo $port
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -keyout "$work/key" -out "$work/certificate" 2>/dev/null
cat >"$work/directory.json" <<'JSON'
{"stores": [{"id": "STORE-001"}], "shoppers": [{"id": "shopper-1", "type": "ASSOCIATE"}],
 "identityKeys": [{"key": "a-badge", "shopper": "shopper-1"}]}
JSON

start() { # scheme, settings…
  api=$(port) management=$(port) scheme=$1; shift
  rm -f "$work"/connector.db*
  [ "$scheme" = http ] || set -- "$@" CONNECTOR__TLS__CERTIFICATE="$work/certificate" CONNECTOR__TLS__KEY="$work/key"
  env CONNECTOR__SERVER__BIND=127.0.0.1:$api CONNECTOR__MANAGEMENT__BIND=127.0.0.1:$management \
    CONNECTOR__STORAGE__URL="sqlite://$work/connector.db" CONNECTOR__DIRECTORY__FILE="$work/directory.json" \
    CONNECTOR__SERVER__IDLE_TIMEOUT=10s "$@" "$connector" serve 2>>"$work/connector.log" &
  pid=$!
  local end=$((SECONDS + 10))
  until curl -sf "http://127.0.0.1:$management/readyz" >/dev/null; do [ $SECONDS -lt $end ] || { echo "not ready"; exit 1; }; sleep 0.1; done
}
stop() { kill -TERM "$pid"; wait "$pid"; pid=; }
counted() { curl -s "http://127.0.0.1:$management/metrics" | sed -n "s/^connector_$1{port=\"api\"} //p"; }

# The gate has its own address and opens a new connection for each request, which is the worst case. Ten scans and ten
# /livez a second, independent of how long the answers take.
ask() { # url path, file, curl arguments…
  local path=$1 file=$2; shift 2
  curl -sS -m 5 --interface 127.0.0.2 --resolve "localhost:$api:127.0.0.1" --cacert "$work/certificate" -o /dev/null \
    -w '%{http_code} %{time_total}\n' "$@" "$scheme://localhost:$api$path" >>"$file" 2>>"$work/curl.log" || echo "000 9" >>"$file"
}
scan() {
  local id; id=$(</proc/sys/kernel/random/uuid)
  printf '{"requestId":"%s","identityKey":"YS1iYWRnZQ==","storeId":"STORE-001","authEvent":{"id":"%s","timestamp":"%(%FT%TZ)T","location":"ENTRY"}}' \
    "$id" "$id" -1
}
probe() { # until the file "over" exists
  local round=0
  while [ ! -e "$work/over" ]; do
    [ $((round++ % 5)) != 0 ] || echo "$SECONDS" $(counted 'connections\(_opened_total\)\?') >>"$work/open" &
    ask /livez "$work/livez" &
    ask /v1/identity/identity-keys "$work/scans" -d "$(TZ=UTC scan)" &
    ls "/proc/$pid/fd" | wc -l >>"$work/files"
    sleep 0.1
  done
  wait
}
milliseconds() { # file, percent: of the times in it
  sort -n -k2 "$1" | awk -v percent="$2" '{ at[NR] = $2 } END { n = int((NR * percent + 99) / 100); printf "%.1f", at[n] * 1000 }'
}

failed=0
say() { printf '| %-30s | %8s | %9s | %9s | %9s | %8s | %10s | %5s | %8s |\n' "$@"; }
say "ms" requests "scans 50%" "scans 99%" "livez 99%" maximum evicted files "open (s)"
attack() { # what, scheme, settings -- slowhttptest arguments…
  local what=$1 settings=() ; start_scheme=$2; shift 2
  while [ "$1" != -- ]; do settings+=("$1"); shift; done; shift
  start "$start_scheme" "${settings[@]}"
  rm -f "$work"/{over,scans,livez,files,open}
  probe & local probing=$!
  sleep 1
  local peers=$PEERS
  [ $# -gt 0 ] || { peers=0; sleep 10; }
  [ $# = 0 ] || timeout $((SECONDS_LONG + 15)) slowhttptest -c $PEERS -r $((PEERS / 2)) -l $SECONDS_LONG -p 5 "$@" \
    -u "$scheme://127.0.0.1:$api/v1/identity/identity-keys" >"$work/slowhttptest.log" 2>&1 || true
  touch "$work/over"; wait $probing
  # The time from when all are connected until the last one is disconnected. Up to 20 connections are the gates'.
  local gone turned_out opened
  gone=$(sort -n "$work/open" | awk -v peers=$peers \
    '!all && $3 >= peers { all = $1 } $2 > 20 { last = $1 + 1 } END { print (last > all && all ? last - all : 0) }')
  turned_out=$(counted connections_turned_out_total) opened=$(counted connections_opened_total)
  local bad scans livez most
  bad=$(cat "$work/scans" "$work/livez" | grep -vc '^200 ' || true)
  scans=$(milliseconds "$work/scans" 99) livez=$(milliseconds "$work/livez" 99)
  most=$(sort -n "$work/files" | tail -1)
  say "$what" "$(cat "$work/scans" "$work/livez" | wc -l)" "$(milliseconds "$work/scans" 50)" "$scans" "$livez" \
    "$(cat "$work/scans" "$work/livez" >"$work/all"; milliseconds "$work/all" 100)" "$turned_out" "$most" "$gone"
  complain() { echo "  $what: $*"; failed=1; }
  [ "$bad" = 0 ] || complain "$bad requests were not answered with 200: $(grep -hv '^200 ' "$work/scans" "$work/livez" | sort | uniq -c | head -3)"
  [ "$opened" -ge $peers ] || complain "only $opened connections were opened"
  awk -v a="$scans" -v b="$livez" -v bound=$BOUND_MS 'BEGIN { exit !(a <= bound && b <= bound) }' || complain "the 99th percentile is over $BOUND_MS ms"
  [ "$most" -le $FILES ] || [ "${#settings[@]}" -gt 0 ] || complain "$most files open, more than the expected $FILES"
  [ "$gone" -le $LET_GO ] || complain "slow connections are still open after $gone s"
  stop
}

attack "no slow clients" http --
attack "slow heads (-H)" http -- -H -i 5
attack "the same over TLS" https -- -H -i 5
attack "the same, 2500 connections" http CONNECTOR__SERVER__MAX_CONNECTIONS=2500 -- -H -i 5
attack "slow bodies (-B)" http -- -B -i 5 -s 8192
attack "ranges (-R)" http -- -R -a 1 -b 3000
attack "slow reading (-X)" http -- -X -k 5 -w 1 -y 64 -n 2 -z 16
exit $failed
