#!/usr/bin/env bash
# Scans while shoppers use carts: 20 scans a second, while 40 shoppers fill carts to their limits, read them, migrate
# them when they sign in, or abandon them, each as fast as the connector answers. On SQLite and on PostgreSQL. Fails
# unless:
# - every scan gets a 200, 99 % of them within 100 ms, and no shopper gets a 500;
# - the connector's memory stays below 200 MB.
#
#   [BOUND_MS=100] .ci/checks/carts.sh [seconds on each: 30] [connector] [steady]
#
# Needs PostgreSQL, curl and python3; and cargo, unless the binaries of the connector and of benches/steady are given.
# The time limit is for an otherwise idle machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-30} BOUND_MS=${BOUND_MS:-100}
SCANS=20 SHOPPERS=40 MEMORY_MB=200
bin() { command -v "$1" || compgen -G "/usr/lib/postgresql/*/bin/$1" | sort -V | tail -1; }
for need in postgres curl python3; do [ -n "$(bin $need)" ] || { echo "needs $need"; exit 1; }; done
connector=${2:-${CARGO_TARGET_DIR:-target}/release/identity-connector}
[ -n "${2:-}" ] || cargo build --release --locked
steady=${3:-$(cargo bench --locked --no-run --bench steady 2>&1 | sed -nE 's/.*Executable benches.steady.*\((.*)\)/\1/p')}

work=$(mktemp -d)
chmod 755 "$work" # PostgreSQL runs as another user if this one is root
pid='' postgres=''
finish() {
  status=$?; set +e
  [ $status = 0 ] || { echo FAILED; tail -n 5 "$work"/*.log; }
  [ -z "$pid" ] || { kill -KILL "$pid"; wait "$pid"; } 2>/dev/null
  [ -z "$postgres" ] || { as_postgres "$(bin pg_ctl)" -D "$work/data" -m immediate stop >/dev/null; wait "$postgres"; } 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT
until_true() { local end=$((SECONDS + 30)); until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { echo "never: $*"; exit 1; }; sleep 0.1; done; }
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }

# Each shopper repeatedly fills carts with 2000 lines or 256 KB, reads them, and signs in or abandons them. Prints the
# number of answers by status.
cat >"$work/shoppers.py" <<'PYTHON'
import collections, http.client, json, sys, threading, time, uuid
api, seconds, number = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
end, statuses, lock = time.monotonic() + seconds, collections.Counter(), threading.Lock()

class Over(Exception): pass
class Refused(Exception): pass

class App:
    def __init__(self, shopper):
        self.shopper, self.connection = shopper, http.client.HTTPConnection(api, timeout=30)
    def ask(self, what, method, path, body=None, headers={}):
        if time.monotonic() > end:
            raise Over
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.connection.getresponse()
        text = answer.read()
        with lock:
            statuses[what, answer.status] += 1
        if answer.status not in (200, 409):
            raise Refused
        return json.loads(text) if answer.status == 200 else None
    def signed_in(self, token):
        bearer = {"Authorization": "Bearer " + token}
        context = self.ask("context", "GET", "/commerceapi/authentication/customercontext", None, bearer)
        return bearer | {"X-Customer-Context": context["customerContext"]}
    def fill(self, long):
        sku = (lambda line: f"{line:x<100}") if long else str
        anonymous_id = str(uuid.uuid4())
        key = {"X-Auth-Key": "demo-authorization-key"}
        token = self.ask("token", "POST", "/commerceapi/authentication", {"anonymousId": anonymous_id}, key)
        headers = self.signed_in(token["accessToken"])
        for cart in range(20):
            made = self.ask("open", "POST", "/commerceapi/cart", {"name": f"cart {cart}", "market": "DE", "currency": "EUR"}, headers)
            lines = [{"sku": sku(cart * 100 + line), "qty": 1} for line in range(100)]
            self.ask("fill", "POST", f"/commerceapi/cart/{made['id']}/lines", lines, headers)
        self.ask("read", "GET", "/commerceapi/cart", None, headers)
        return anonymous_id
    def shop(self, visit):
        anonymous_id = self.fill(long=visit % 2 == 0)
        if visit % 3 == 0:
            return # abandoned
        headers = self.signed_in(self.ask("sign in", "POST", "/demo/sign-in", {"shopper": self.shopper})["accessToken"])
        self.ask("migrate", "POST", "/commerceapi/cart/migrate", {"anonymousId": anonymous_id}, headers)
        for cart in self.ask("read", "GET", "/commerceapi/cart", None, headers):
            self.ask("remove", "DELETE", f"/commerceapi/cart/{cart['id']}", None, headers)
    def run(self):
        visit = int(self.shopper.rpartition("-")[2])
        while time.monotonic() < end:
            visit += 1
            try:
                self.shop(visit)
            except (Over, Refused):
                pass
            except Exception as error:
                with lock:
                    statuses["failed", repr(error)] += 1
                return

shoppers = [threading.Thread(target=App(f"shopper-{shopper}").run) for shopper in range(number)]
for shopper in shoppers: shopper.start()
for shopper in shoppers: shopper.join()
print("  shoppers:", ", ".join(f"{what} {status}: {count}" for (what, status), count in sorted(statuses.items(), key=str)))
full = sum(count for (what, status), count in statuses.items() if what == "fill" and status == 409)
migrated = statuses["migrate", 200]
bad = [(what, status) for what, status in statuses if status not in (200, 409)]
sys.exit(f"  shoppers got {bad}" if bad else None if full and migrated else "  no cart was filled to its limits, or none was migrated")
PYTHON

failed=0
measure() { # database, url
  local ports api management
  rm -f "$work/connector.log"
  env CONNECTOR__SERVER__BIND=127.0.0.1:0 CONNECTOR__MANAGEMENT__BIND=127.0.0.1:0 CONNECTOR__LOG__FORMAT=json CONNECTOR__STORAGE__URL="$2" \
    CONNECTOR__SECURITY__HASH_KEY="$(printf '%032d' 0 | base64)" CONNECTOR__COMMERCE__REQUESTS_PER_SECOND=1000000 \
    CONNECTOR__COMMERCE__BURST=1000000 CONNECTOR__MANAGEMENT__TOKEN=a-token-of-the-check \
    "$connector" demo >/dev/null 2>"$work/connector.log" &
  pid=$!
  until_true grep -q '"message":"ready"' "$work/connector.log"
  ports=$(grep '"message":"ready"' "$work/connector.log" | sed 's/.*"api":"\([^"]*\)".*"management":"\([^"]*\)".*/\1 \2/')
  api=${ports% *} management=${ports#* }
  for shopper in $(seq 0 $((SHOPPERS - 1))); do
    curl -fsS -X PUT -H 'Authorization: Bearer a-token-of-the-check' -d '{"type": "ASSOCIATE"}' \
      "http://$management/admin/v1/shoppers/shopper-$shopper" >/dev/null
  done
  echo "$1:"
  local shoppers
  nice python3 "$work/shoppers.py" "$api" "$seconds" $SHOPPERS & shoppers=$!
  sleep "$seconds" | "$steady" "$api" $SCANS valid_shopper_key STORE-001 >"$work/gates" || failed=1
  wait $shoppers || failed=1
  sed 's/^/  gates: /' "$work/gates"
  local most; most=$(awk '/^VmHWM/ { print int($2 / 1000) }' "/proc/$pid/status")
  echo "  maximum memory: $most MB"
  [ "$most" -lt $MEMORY_MB ] || { echo "  FAILED: more than $MEMORY_MB MB"; failed=1; }
  python3 - "$work/gates" "$BOUND_MS" <<'PYTHON' || failed=1
import re, sys
number, unit = re.search(r"99 % within ([0-9.]+)(ns|µs|ms|s)", open(sys.argv[1]).read()).groups()
took = float(number) * {"ns": 1e-6, "µs": 1e-3, "ms": 1, "s": 1e3}[unit]
sys.exit(f"  FAILED: the 99th percentile of the scans is above {sys.argv[2]} ms" if took > float(sys.argv[2]) else 0)
PYTHON
  kill "$pid"; wait "$pid"; pid=
}

measure SQLite "sqlite://$work/connector.db"

install -d "$work/data" && { [ "$(id -u)" != 0 ] || chown postgres "$work/data"; }
as_postgres "$(bin initdb)" -D "$work/data" -U connector --auth=trust --encoding=UTF8 --locale=C >"$work/initdb.log"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
as_postgres "$(bin postgres)" -D "$work/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= >"$work/postgres.log" 2>&1 & postgres=$!
until_true as_postgres "$(bin psql)" -h 127.0.0.1 -p "$port" -U connector -d postgres -c 'SELECT 1'
as_postgres "$(bin psql)" -qX -h 127.0.0.1 -p "$port" -U connector -d postgres -c 'CREATE DATABASE connector'
measure PostgreSQL "postgres://connector@127.0.0.1:$port/connector"
exit $failed
