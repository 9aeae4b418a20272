#!/usr/bin/env bash
# Behaviour under overload (benches/overload): an open load on the binary, whose directory takes 20 ms for a scan and 64
# scans at a time, so a capacity of 3200 scans a second. Requests are new events at random times, independent of earlier
# answers. The load is 1, 2, 5 and 10 times the capacity, and half of it before and afterwards. Fails unless:
# - the goodput (200 within 1.5 s of the time when the request was due) at each load is at least 95 % of the best one;
# - every request is answered with 200 or 429; 99 % of the 429s within 100 ms and 99 % of the 200s within 1.5 s of the
#   time when they were due;
# - 5 s after the end all answers are 200 again, with a 99th percentile of at most twice the earlier one plus 10 ms.
#
#   .ci/checks/overload.sh [seconds at each load: 8]
#
# Needs cargo and two otherwise idle cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
ulimit -n 4096
OVERLOAD_SECONDS=${1:-8} cargo bench --locked --bench overload
