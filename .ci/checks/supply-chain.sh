#!/usr/bin/env bash
# What is in the binary: licences, bans and sources of all dependencies, a bill of materials (CycloneDX) that names each of them, and
# their licence texts.
#
#   .ci/checks/supply-chain.sh [--advisories] [FOLDER]     # target/sbom unless said otherwise
#
# --advisories also looks for known weaknesses, for which a database is fetched.
set -euo pipefail
cd "$(dirname "$0")/../.."

checks=(bans licenses sources)
if [ "${1:-}" = --advisories ]; then
  checks+=(advisories)
  shift
fi
out=${1:-target/sbom}

step() { printf '\n== %s\n' "$*"; "$@"; }

command -v cargo-deny >/dev/null || step cargo install cargo-deny --version 0.20.2 --locked
command -v cargo-cyclonedx >/dev/null || step cargo install cargo-cyclonedx --version 0.5.9 --locked

step cargo deny --locked check "${checks[@]}"

# It writes beside Cargo.toml, whatever it is told.
target=$(rustc --version --verbose | sed -n 's/^host: //p')
step cargo cyclonedx --format json --spec-version 1.5 --target "$target" --override-filename identity-connector.cdx
mkdir -p "$out"
mv identity-connector.cdx.json "$out/identity-connector.cdx.json"

# Each package that is linked into the binary, with its version.
linked=$(cargo tree --locked --edges normal --target "$target" --prefix none --format '{p}' | awk '{print $1 "@" substr($2, 2)}' | sort -u)
for package in $linked; do
  grep -q "\"pkg:cargo/$package[\"?]" "$out/identity-connector.cdx.json" || { echo "$package is not in the bill of materials"; exit 1; }
done
grep -q '"bomFormat": "CycloneDX"' "$out/identity-connector.cdx.json"
# A crate without a licence text fails here, before it fails the build of the image.
step deploy/image/third-party.sh "$out"
printf '\n%s packages in %s\n' "$(wc -w <<<"$linked")" "$out/identity-connector.cdx.json"
