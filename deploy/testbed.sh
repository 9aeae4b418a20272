# Starts nginx with nginx.conf in front of two connectors with one PostgreSQL and one Redis, with the secrets of
# make-secrets.sh, on free loopback ports, and removes everything at the end. Sourced by deploy/check.sh and
# .ci/checks/rolling-restarts.sh, which set `connector`, the binary, and `settings`, the connectors' environment
# variables. Needs PostgreSQL, redis-server or valkey-server, nginx, openssl, curl.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
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
  [ -z "${pids[nginx]-}" ] || end TERM nginx # its workers would outlive a master that is killed
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
until_true() { # seconds, command…: waits until the command succeeds
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { echo "timed out waiting for: $*"; return 1; }; sleep 0.1; done
}
port() { # prints a free port below the ephemeral range
  local port
  while port=$((15000 + RANDOM % 15000)); (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; do :; done
  echo $port
}
# PostgreSQL does not run as root.
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
db=$(port) cache=$(port) https=$(port) http=$(port) health=$(port)
api=(0 "$(port)" "$(port)") management=(0 "$(port)" "$(port)")

say "secrets"
"$here/make-secrets.sh" "$work/secrets" >/dev/null
chmod 711 "$work/secrets" # for the user that PostgreSQL runs as here
cd "$work/secrets"
sed -i "s#@postgres/#@127.0.0.1:$db/#" database_url
sed -i "s#@valkey/#@127.0.0.1:$cache/#" rate_limit_url
api_key=$(cut -d'"' -f2 amazon_api_keys)

say "PostgreSQL, with postgres-init.sql"
install -d "$work/data" && { [ "$(id -u)" != 0 ] || chown postgres "$work/data"; }
as_postgres "$(bin initdb)" -U postgres --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8 --locale=C --no-sync \
  -D "$work/data" >/dev/null
run postgres as_postgres "$(bin postgres)" -D "$work/data" -p "$db" -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories="$work/data" -c fsync=off
until_true 30 as_postgres "$(bin psql)" -h "$work/data" -p "$db" -U postgres -c 'SELECT 1'
sed "s#/run/secrets#$work/secrets#" "$here/postgres-init.sql" |
  as_postgres "$(bin psql)" -q -X -v ON_ERROR_STOP=1 -h "$work/data" -p "$db" -U postgres

say "Redis, for rate limits"
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
    CONNECTOR__RATE_LIMIT__URL_FILE="$work/secrets/rate_limit_url" "${settings[@]}" \
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

say "nginx, with nginx.conf"
sed -e "s#/tmp/#$work/#; s#/run/secrets#$work/secrets#; s#/dev/stdout#$work/access.log#; s#listen 8443 ssl#listen 127.0.0.1:$https ssl; listen 127.0.0.1:$http#" \
  -e "s#172.30.80.11:8080#127.0.0.1:${api[1]}#; s#172.30.80.12:8080#127.0.0.1:${api[2]}#; s#127.0.0.1:8081#127.0.0.1:$health#" \
  -e "1i daemon off;" "$here/nginx.conf" >"$work/nginx.conf"
[ "$(id -u)" != 0 ] || sed -i '1i user root;' "$work/nginx.conf" # the secrets here belong to this user
run nginx nginx -p "$work" -c "$work/nginx.conf"
until_true 10 curl -fs "http://127.0.0.1:$health/livez"
