#!/usr/bin/env bash
# Fuzzes what an attacker reaches, one target after the other, and fails on the first thing found.
#
#   .ci/checks/fuzz.sh [SECONDS [TARGET…]]     # 60 seconds a target, all of them
#
# What is found stands in fuzz/artifacts/, and what got further than the seeds in target/fuzz/. See fuzz/README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-60}
targets=("${@:2}")
[ "${#targets[@]}" -gt 0 ] || targets=(body scan_code token context)

command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --version 0.13.2 --locked
# The fuzzer's instrumentation is not stable yet: for this purpose alone the compiler is told to go ahead. What is shipped is built without.
export RUSTC_BOOTSTRAP=1

for target in "${targets[@]}"; do
  printf '\n== %s, %s seconds\n' "$target" "$seconds"
  found=target/fuzz/$target
  mkdir -p "$found"
  options=(-max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 -print_final_stats=1)
  [ ! -e "fuzz/dictionaries/$target.dict" ] || options+=(-dict="fuzz/dictionaries/$target.dict")
  # New inputs go to the first folder: the seeds stay few.
  cargo fuzz run "$target" "$found" "fuzz/corpus/$target" -- "${options[@]}"
done
