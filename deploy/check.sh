#!/usr/bin/env bash
# What stands in this folder, tried out: nginx with nginx.conf in front of two connectors on one PostgreSQL and one Redis, with
# the secrets of make-secrets.sh; gates scan while connectors are killed, stopped and started again. Everything runs on free
# ports of this machine's loopback and is gone at the end.
# Usage: deploy/check.sh [binary]     Needs PostgreSQL, redis-server or valkey-server, nginx, openssl, curl.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
connector=$(realpath "${1:-${CARGO_TARGET_DIR:-$here/../target}/release/identity-connector}")
bin() { command -v "$1" || compgen -G "/usr/lib/postgresql/*/bin/$1" | sort -V | tail -1; }
for need in postgres nginx openssl curl; do bin $need >/dev/null || { echo "needs $need"; exit 1; }; done
redis=$(command -v valkey-server || command -v redis-server) || { echo "needs valkey-server or redis-server"; exit 1; }
[ -x "$connector" ] || { echo "needs $connector: cargo build --release"; exit 1; }

work=$(mktemp -d)
chmod 711 "$work"
declare -A pids
finish() {
  status=$?; set +e
  [ $status = 0 ] || { echo "FAILED at: ${step:-the start}"; tail -n 20 "$work"/*.log 2>/dev/null; }
  for name in "${!pids[@]}"; do end CONT "$name"; end KILL "$name"; done
  [ ! -e "$work/data/postmaster.pid" ] || as_postgres "$(bin pg_ctl)" -D "$work/data" -m immediate stop >/dev/null
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

end() { # signal, name
  { kill "-$1" "${pids[$2]}" && { [ "$1" = CONT ] || wait "${pids[$2]}"; }; } 2>/dev/null || true
}
say() { step=$*; echo "== $*"; }
run() { # name, command…: in the background
  local name=$1; shift
  "$@" >>"$work/$name.log" 2>&1 &
  pids[$name]=$!
}
until_true() { # seconds, command…
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { echo "not so in time: $*"; return 1; }; sleep 0.1; done
}
port() { # a free one, below those that outgoing connections get
  local port
  while port=$((15000 + RANDOM % 15000)); (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; do :; done
  echo $port
}
# PostgreSQL does not run as root.
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
db=$(port) cache=$(port) https=$(port) health=$(port)
api=(0 "$(port)" "$(port)") management=(0 "$(port)" "$(port)")

say "secrets"
"$here/make-secrets.sh" "$work/secrets" >/dev/null
chmod 711 "$work/secrets" # for the user whom PostgreSQL runs as here
cd "$work/secrets"
sed -i "s#@postgres/#@127.0.0.1:$db/#" database_url
sed -i "s#@valkey/#@127.0.0.1:$cache/#" rate_limit_url
api_key=$(cut -d'"' -f2 amazon_api_keys)

say "PostgreSQL, by postgres-init.sql"
install -d "$work/data" && { [ "$(id -u)" != 0 ] || chown postgres "$work/data"; }
as_postgres "$(bin initdb)" -U postgres --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8 --locale=C --no-sync \
  -D "$work/data" >/dev/null
run postgres as_postgres "$(bin postgres)" -D "$work/data" -p "$db" -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories="$work/data" -c fsync=off
until_true 30 as_postgres "$(bin psql)" -h "$work/data" -p "$db" -U postgres -c 'SELECT 1'
sed "s#/run/secrets#$work/secrets#" "$here/postgres-init.sql" |
  as_postgres "$(bin psql)" -q -X -v ON_ERROR_STOP=1 -h "$work/data" -p "$db" -U postgres

say "rate limits"
run redis "$redis" "$work/secrets/valkey_conf" --port "$cache" --bind 127.0.0.1 --dir "$work" \
  --save "" --appendonly no --maxmemory 64mb --maxmemory-policy volatile-ttl

say "two connectors"
cat >"$work/directory.json" <<'JSON'
{"stores": [{"id": "STORE-001"}], "shoppers": [{"id": "shopper-1", "type": "ASSOCIATE"}],
 "identityKeys": [{"key": "a-badge", "shopper": "shopper-1"}]}
JSON
serve() {
  run "connector-$1" env CONNECTOR__SERVER__BIND="127.0.0.1:${api[$1]}" CONNECTOR__SERVER__TRUSTED_PROXIES=127.0.0.1 \
    CONNECTOR__MANAGEMENT__BIND="127.0.0.1:${management[$1]}" CONNECTOR__DIRECTORY__FILE="$work/directory.json" \
    CONNECTOR__MANAGEMENT__TOKEN_FILE="$work/secrets/management_token" \
    CONNECTOR__STORAGE__URL_FILE="$work/secrets/database_url" CONNECTOR__SECURITY__HASH_KEY_FILE="$work/secrets/hash_key" \
    CONNECTOR__RATE_LIMIT__URL_FILE="$work/secrets/rate_limit_url" CONNECTOR__RATE_LIMIT__REQUESTS_PER_SECOND=1 \
    "$connector" serve
}
ready() { "$connector" healthcheck --url "http://127.0.0.1:${api[$1]}"; }
metric() { # connector, name
  curl -fsS -H "Authorization: Bearer $(<"$work/secrets/management_token")" "http://127.0.0.1:${management[$1]}/metrics" |
    sed -n "s/^$2 //p"
}
is() { [ "$(metric "$1" "$2")" = "$3" ]; }
for n in 1 2; do serve $n; done
for n in 1 2; do until_true 30 ready $n; until_true 10 is $n connector_rate_limit_shared 1; done

say "nginx, by nginx.conf"
sed -e "s#/tmp/#$work/#; s#/run/secrets#$work/secrets#; s#/dev/stdout#$work/access.log#; s#listen 8443#listen 127.0.0.1:$https#" \
  -e "s#172.30.80.11:8080#127.0.0.1:${api[1]}#; s#172.30.80.12:8080#127.0.0.1:${api[2]}#; s#127.0.0.1:8081#127.0.0.1:$health#" \
  -e "1i daemon off;" "$here/nginx.conf" >"$work/nginx.conf"
[ "$(id -u)" != 0 ] || sed -i '1i user root;' "$work/nginx.conf" # the secrets here are this user's
run nginx nginx -p "$work" -c "$work/nginx.conf"
until_true 10 curl -fs "http://127.0.0.1:$health/livez"

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
