#!/usr/bin/env bash
# Checks the dependencies that are linked into the binary, and writes a bill of materials (CycloneDX) that names each of
# them and their licence texts.
#
#   .ci/checks/supply-chain.sh [FOLDER]      # licences, bans and sources; the files go to FOLDER, default target/sbom
#   .ci/checks/supply-chain.sh --advisories  # known vulnerabilities only; downloads the advisory database
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { printf '\n== %s\n' "$*"; "$@"; }

command -v cargo-deny >/dev/null || step cargo install cargo-deny --version 0.20.2 --locked
if [ "${1:-}" = --advisories ]; then
  step cargo deny --locked check advisories
  exit
fi
step cargo deny --locked check bans licenses sources

command -v cargo-cyclonedx >/dev/null || step cargo install cargo-cyclonedx --version 0.5.9 --locked
out=${1:-target/sbom}

# cargo-cyclonedx always writes next to Cargo.toml.
target=$(rustc --version --verbose | sed -n 's/^host: //p')
step cargo cyclonedx --format json --spec-version 1.5 --target "$target" --override-filename identity-connector.cdx
mkdir -p "$out"
mv identity-connector.cdx.json "$out/identity-connector.cdx.json"

# The bill of materials must name every package that is linked into the binary.
linked=$(cargo tree --locked --edges normal --target "$target" --prefix none --format '{p}' | awk '{print $1 "@" substr($2, 2)}' | sort -u)
for package in $linked; do
  grep -q "\"pkg:cargo/${package}[\"?]" "$out/identity-connector.cdx.json" || { echo "$package is not in the bill of materials"; exit 1; }
done
grep -q '"bomFormat": "CycloneDX"' "$out/identity-connector.cdx.json"
# A crate without a licence text would also fail the build of the image.
step deploy/image/third-party.sh "$out"
printf '\n%s packages in %s\n' "$(wc -w <<<"$linked")" "$out/identity-connector.cdx.json"
