#!/usr/bin/env bash
# Counts the instructions of a scan, from request to answer, and of its parts (benches/instructions). Fails if a count
# exceeds its baseline in benches/instructions/baselines.txt by more than the margin. Prints which counts are so much
# lower that the baseline should be updated.
#
#   .ci/checks/instructions.sh [--update]     # --update: write the new counts as baselines
#
# Needs valgrind. Other load on the machine does not change the counts; another compiler does.
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:-}" in '' | --update) ;; *) echo "unknown argument $1: only --update is allowed" >&2 && exit 2 ;; esac
baselines=benches/instructions/baselines.txt

# The runner must have the same version as the library.
version=$(sed -n '/^name = "gungraun"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
tools=$PWD/target/tools
[ "$("$tools/bin/gungraun-runner" --version 2>/dev/null)" = "gungraun-runner $version" ] ||
  cargo install gungraun-runner --version "$version" --locked --root "$tools"
export PATH="$tools/bin:$PATH"

counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
status=0
cargo bench --locked --bench instructions -- --output-format=json >"$counts" || status=$?
# 3: everything was counted, and a count is over its limit. Any other code: not everything was counted.
[ "$status" = 0 ] || [ "$status" = 3 ] || exit "$status"

python3 - "$counts" "$baselines" "${1:-}" <<'PYTHON' || exit
import json, sys

counts, baselines, mode = sys.argv[1:]
with open(counts) as lines:
    runs = [json.loads(line) for line in lines]
counted = {run["id"]: run["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"] for run in runs}
with open(baselines) as lines:
    before = {name: int(number) for name, number in map(str.split, lines)}
fallen = []
for name, number in counted.items():
    change = number / before[name] - 1 if before.get(name) else float("inf")
    print(f"{name:16}{number:12,} instructions, {change:+8.2%}")
    if change < -0.05:
        fallen.append(name)
if missing := before.keys() - counted.keys():
    sys.exit(f"in {baselines} but not counted: {', '.join(sorted(missing))}")
if mode == "--update":
    with open(baselines, "w") as lines:
        lines.writelines(f"{name} {number}\n" for name, number in counted.items())
    sys.exit(0)
if fallen:
    print(f"\n!!! FAR BELOW THE BASELINE: {', '.join(fallen)}. Update the baseline, or a later increase stays unnoticed: .ci/checks/instructions.sh --update")
PYTHON
[ "${1:-}" != --update ] || exit 0
if [ "$status" = 3 ]; then echo 'A count is over its limit: see above, and benches/instructions/main.rs.' >&2; fi
exit "$status"
