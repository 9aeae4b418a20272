#!/usr/bin/env bash
# Restarts two connectors behind nginx (deploy/testbed.sh) one after the other, under a steady load of scans: no request may
# fail. Each connector gets SIGTERM, exits with 0, starts, is ready, and receives requests from nginx before the next restart.
# Usage: .ci/checks/rolling-restarts.sh [rolling restarts: 20] [requests a second: 300]
# Needs what deploy/testbed.sh needs, and cargo.
set -euo pipefail
cd "$(dirname "$0")/../.."
restarts=${1:-20} rate=${2:-300}
steady=$(realpath "$(cargo bench --locked --no-run --bench steady 2>&1 | sed -nE 's/.*Executable benches.steady.*\((.*)\)/\1/p')")
connector=$(realpath "${CARGO_TARGET_DIR:-target}/release/identity-connector")
settings=(CONNECTOR__RATE_LIMIT__REQUESTS_PER_SECOND="$((rate * 2))") # the whole load comes from one address
. deploy/testbed.sh

answers() { # connector: prints the number of its answers since its start
  curl -fsS -H "Authorization: Bearer $(<"$work/secrets/management_token")" "http://127.0.0.1:${management[$1]}/metrics" |
    awk '/^connector_answers_total/ { sum += $2 } END { print sum + 0 }'
}
is_used_by_nginx() { [ "$(answers "$1")" -gt 0 ]; }

say "a steady load, $rate requests a second"
mkfifo "$work/until"
"$steady" "127.0.0.1:$http" "$rate" a-badge STORE-001 "x-api-key: $api_key" <"$work/until" >"$work/steady" &
load=$!
sleep infinity >"$work/until" & pids[until]=$! # the load ends with this process
for n in 1 2; do until_true 10 is_used_by_nginx $n; done

began=$SECONDS
for restart in $(seq "$restarts"); do
  for n in 1 2; do
    say "rolling restart $restart of $restarts: connector $n"
    kill -TERM "${pids[connector-$n]}"
    wait "${pids[connector-$n]}" # the script fails if the exit code is not 0
    serve $n
    until_true 30 ready $n
    # nginx skips a failed connector for one second. Restarting the other one sooner would leave nginx without any.
    until_true 10 is_used_by_nginx $n
  done
done
took=$((SECONDS - began))

say "results of the load"
end KILL until
lost=0
wait $load || lost=$?
cat "$work/steady"
[ $lost = 0 ]
echo "$restarts rolling restarts, $((restarts * 2)) stops and starts, in $took s. Upstream status in nginx:"
grep -o '"upstreamStatus":"[^"]*"' "$work/access.log" | cut -d: -f2 | sort | uniq -c
