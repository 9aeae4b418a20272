#!/usr/bin/env bash
# Fuzzes everything that reads untrusted input, one target after the other, and fails at the first finding.
#
#   .ci/checks/fuzz.sh [SECONDS [TARGET…]]     # default: 60 seconds for each of all targets
#
# Findings are written to fuzz/artifacts/, and inputs that reach new code to target/fuzz/. See fuzz/README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-60}
targets=("${@:2}")
[ "${#targets[@]}" -gt 0 ] || targets=(body scan_code token context)

command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --version 0.13.2 --locked
# The fuzzer's instrumentation is unstable, so allow unstable features for this build only. Released binaries are built
# without it.
export RUSTC_BOOTSTRAP=1

for target in "${targets[@]}"; do
  printf '\n== %s, %s seconds\n' "$target" "$seconds"
  found=target/fuzz/$target
  mkdir -p "$found"
  options=(-max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 -print_final_stats=1)
  [ ! -e "fuzz/dictionaries/$target.dict" ] || options+=(-dict="fuzz/dictionaries/$target.dict")
  # New inputs are written to the first folder, so that the seeds stay unchanged.
  cargo fuzz run "$target" "$found" "fuzz/corpus/$target" -- "${options[@]}"
done
