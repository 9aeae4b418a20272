#!/usr/bin/env bash
# Two thousand slow peers at the API's port, in slowhttptest's four modes and once over TLS, while gates scan: says how long the gates'
# answers took, and fails if one failed or was late, if a slow peer was held on to, or if the process opened more files than it may.
# Everything runs on free ports of this machine's loopback and is gone at the end; some three minutes.
# Usage: [BOUND_MS=200] .ci/checks/slow-peers.sh [binary]     Needs slowhttptest, curl, openssl. The bound is for a machine that does nothing
# else; the first row, without any slow peer, says how far this one is that.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
connector=$(realpath "${1:-${CARGO_TARGET_DIR:-$here/target}/release/identity-connector}")
for need in slowhttptest curl openssl; do command -v $need >/dev/null || { echo "needs $need"; exit 1; }; done
[ -x "$connector" ] || { echo "needs $connector: cargo build --release"; exit 1; }

PEERS=2000          # slow peers, as many as come within two seconds
SECONDS_LONG=25     # how long they try
LET_GO=20           # once all have come: 5 s for a handshake, 10 s for a head, to be idle or for an answer, and some more
BOUND_MS=${BOUND_MS:-200} # 99 of 100 answers to the gates; some wait for the first of those who send bodies slowly to have had its second
MAX=700             # server.max_connections, as it is by default
FILES=$((MAX + 64 + 64 + 64 + 100)) # docs/operations.md: with those that are going, and the management port's
# For slowhttptest and for the connector alike.
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
port() { # a free one, below those that outgoing connections get
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

# A gate has an address of its own, and comes anew each time, which is the worst case: a connection, a handshake, a request. Ten scans and
# ten /livez a second, however long the answers take.
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
probe() { # until there is a file "over"
  local turn=0
  while [ ! -e "$work/over" ]; do
    [ $((turn++ % 5)) != 0 ] || echo "$SECONDS" $(counted 'connections\(_opened_total\)\?') >>"$work/open" &
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
say() { printf '| %-30s | %6s | %9s | %9s | %9s | %8s | %10s | %5s | %8s |\n' "$@"; }
say "ms" asked "scans 50%" "scans 99%" "livez 99%" worst "turned out" files "gone (s)"
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
  # From when all have come until the last of them was let go; of the gates some are always there.
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
  [ "$bad" = 0 ] || complain "$bad gates had no answer: $(grep -hv '^200 ' "$work/scans" "$work/livez" | sort | uniq -c | head -3)"
  [ "$opened" -ge $peers ] || complain "only $opened connections were made"
  awk -v a="$scans" -v b="$livez" -v bound=$BOUND_MS 'BEGIN { exit !(a <= bound && b <= bound) }' || complain "over $BOUND_MS ms"
  [ "$most" -le $FILES ] || [ "${#settings[@]}" -gt 0 ] || complain "$most files open, and $FILES would do"
  [ "$gone" -le $LET_GO ] || complain "still there after $gone s"
  stop
}

attack "nobody" http --
attack "slow heads (-H)" http -- -H -i 5
attack "the same over TLS" https -- -H -i 5
attack "the same with room for 2500" http CONNECTOR__SERVER__MAX_CONNECTIONS=2500 -- -H -i 5
attack "slow bodies (-B)" http -- -B -i 5 -s 8192
attack "ranges (-R)" http -- -R -a 1 -b 3000
attack "slow reading (-X)" http -- -X -k 5 -w 1 -y 64 -n 2 -z 16
exit $failed
