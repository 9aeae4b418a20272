#!/usr/bin/env bash
# What overload does (benches/overload): an open load on the binary, whose directory takes 20 ms for a scan and 64 at a time; requests come at
# instants that chance sets, whatever became of those before, each of its own event; at 1, 2, 5 and 10 times what it can do, 3200 a second,
# and at half of that before and afterwards. Promised, and this ends with 1 where it is not kept:
# - of the best goodput (200 within 1.5 s of the instant at which it was due), at least 95 % at each of these;
# - nothing but 200 and 429, no request unanswered; 99 % of the 429s within 100 ms of when they were due, of the 200s within 1.5 s;
# - within 5 s of the end all are 200 again, 99 % of them as soon as before.
# Usage: .ci/checks/overload.sh [seconds of each: 8]     Needs cargo and two cores that have nothing else to do.
set -euo pipefail
cd "$(dirname "$0")/../.."
ulimit -n 4096
OVERLOAD_SECONDS=${1:-8} cargo bench --locked --bench overload
