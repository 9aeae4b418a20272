#!/usr/bin/env bash
# The cost of traces: a steady load on the binary with storage in memory. First without traces, then with every scan
# traced to a collector that answers, then to a collector that accepts connections and never answers. Fails unless every
# scan gets a 200 in time in all three.
#
#   .ci/checks/traces.sh [scans a second: 1000] [seconds of each: 10]
#
# Needs cargo, curl, python3 and two otherwise idle cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
rate=${1:-1000} seconds=${2:-10}
folder=$(mktemp -d)
connector='' collector=''
trap 'kill $connector $collector 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

cargo build --release --locked
binary=${CARGO_TARGET_DIR:-target}/release/identity-connector
cargo bench --locked --no-run --bench steady

# A collector that answers every request or, with the argument "silent", none. Prints its port.
cat >"$folder/collector.py" <<'PYTHON'
import socket, socketserver, sys, time
class Collector(socketserver.StreamRequestHandler):
    def handle(self):
        while sys.argv[1] == "silent":
            time.sleep(60)
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline().strip()):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.rfile.read(length)
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Collector)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
PYTHON

run() { # name, settings of the environment
  local name=$1 ports
  shift
  env CONNECTOR__SERVER__BIND=127.0.0.1:0 CONNECTOR__MANAGEMENT__BIND=127.0.0.1:0 CONNECTOR__LOG__FORMAT=json \
    CONNECTOR__RATE_LIMIT__REQUESTS_PER_SECOND=1000000 CONNECTOR__RATE_LIMIT__BURST=1000000 CONNECTOR__MANAGEMENT__TOKEN=a-token-of-the-check \
    "$@" "$binary" demo >/dev/null 2>"$folder/log" &
  connector=$!
  until grep -q '"message":"ready"' "$folder/log"; do kill -0 $connector; sleep 0.05; done
  ports=$(grep '"message":"ready"' "$folder/log" | sed 's/.*"api":"\([^"]*\)".*"management":"\([^"]*\)".*/\1 \2/')
  printf '%-32s' "$name"
  sleep "$seconds" | cargo bench --quiet --locked --bench steady -- "${ports% *}" "$rate" valid_shopper_key STORE-001 | sed -n 1p # sed reads to the end, as a write to a closed pipe would fail
  curl -s -H 'Authorization: Bearer a-token-of-the-check' "http://${ports#* }/metrics" |
    grep -E '^(process_cpu_seconds_total|process_resident_memory_bytes|connector_spans_total\{)' | sed 's/^/    /'
  kill $connector
  wait $connector
  connector=''
}

collect() { # answers or silent
  exec 3< <(exec python3 "$folder/collector.py" "$1")
  collector=$!
  read -r port <&3
}

run 'no traces'
collect answers
run 'every scan traced' CONNECTOR__TELEMETRY__OTLP_ENDPOINT="http://127.0.0.1:$port" CONNECTOR__TELEMETRY__SAMPLE_RATIO=1
kill "$collector"
collect silent
run 'every scan, a silent collector' CONNECTOR__TELEMETRY__OTLP_ENDPOINT="http://127.0.0.1:$port" CONNECTOR__TELEMETRY__SAMPLE_RATIO=1
