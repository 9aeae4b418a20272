#!/usr/bin/env bash
# Fails unless every file with the connector's version has the version of Cargo.toml.
#
#   .ci/checks/version.sh [TAG]     # a release passes its tag, such as v0.2.0, which must match too
set -euo pipefail
cd "$(dirname "$0")/../.."

status=0
expect() { # where, the version found there
  [ "$2" = "$version" ] && return
  echo "$1: version is '$2', but Cargo.toml has '$version'" >&2
  status=1
}
locked() { sed -n '/^name = "identity-connector"$/{n;s/^version = "\(.*\)"$/\1/p}' "$1"; }

version=$(sed -n '/^\[package\]$/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
expect Cargo.lock "$(locked Cargo.lock)"
expect fuzz/Cargo.lock "$(locked fuzz/Cargo.lock)"
expect docs/openapi.json "$(sed -n '/^  "info": {$/,/^  }/s/^    "version": "\(.*\)"$/\1/p' docs/openapi.json)"
expect "CHANGELOG.md, newest release" "$(sed -n '/^## \[[0-9]/{s/^## \[\(.*\)\] - .*/\1/p;q}' CHANGELOG.md)"

# The image's label, and image tags wherever a deployment file or a document names one.
while IFS=: read -r file line tag; do
  expect "$file:$line" "$(sed -E 's/.*[:= "]//' <<<"$tag")"
done < <(grep -srnoE '(identity-connector:|newTag: *"?|image\.version="?)[0-9][0-9A-Za-z.+-]*' \
  Dockerfile compose.yaml deploy README.md docs)

[ $# = 0 ] || expect "tag $1" "${1#v}"
exit $status
