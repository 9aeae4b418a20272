#!/usr/bin/env bash
# Collects the licences of everything that the image contains besides this project, into FOLDER:
#
#   THIRD-PARTY.txt               each crate linked into the binary, and the licence texts that its package contains
#   rust-standard-library.html    the same for Rust's standard library, as the toolchain ships it
#   debian/                       the copyright file of each Debian package that a FILE belongs to, and the texts it refers to
#
# Usage: deploy/image/third-party.sh FOLDER [FILE...]
#
# Runs in the image's build, after the crates are downloaded, with the tools of that build only. It does not decide
# which licences are allowed: cargo deny does, with deny.toml. A crate without any licence text fails the build.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
host=$(rustc --version --verbose | sed -n 's/^host: //p')
rust=$(rustc --print sysroot)/share/doc/rust
sources=("${CARGO_HOME:-$HOME/.cargo}"/registry/src/*)

# One line for each crate: name|version|SPDX expression|repository. The first line, this project, is removed.
cargo tree --locked --edges normal --target "$host" --prefix none --no-dedupe --format '{p}|{l}|{r}' |
  sed -E '1d; s/^([^ ]+) v([^ |]+)[^|]*/\1|\2/' | LC_ALL=C sort -u >"$work/crates"

# Prints the files with the licence texts of a crate; if its package has none, the standard text of a licence that it
# names.
texts() { # name version expression
  local source found
  for source in "${sources[@]}"; do
    [ -d "$source/$1-$2" ] || continue
    # SQLCipher is another library in the same package. It is not compiled.
    found=$(find "$source/$1-$2" -name sqlcipher -prune -o -type f -size +0 \
      -regextype posix-extended -iregex '.*/(licenses/[^/]+|(un)?(licen[cs]e|copying|notice|copyright)s?([-._][^/]*)?)' \
      -not -iregex '.*\.(rs|py|c|h|toml|json|sh|pl|go)' -print | LC_ALL=C sort)
    break
  done
  if [ -z "${found-}" ]; then
    local licence
    for licence in $(tr -d '()' <<<"$3"); do
      [ -e "$rust/licenses/$licence.txt" ] && found=$rust/licenses/$licence.txt && break
    done
  fi
  [ -n "${found-}" ] || { echo "third-party.sh: $1 $2 ($3): its package contains no licence text" >&2; return 1; }
  printf '%s\n' "$found"
}

mkdir "$work/texts"
while IFS='|' read -r name version expression _; do
  files=$(texts "$name" "$version" "$expression")
  while read -r file; do
    # A text that several packages contain is written once; white space does not count.
    text=$(tr -s '[:space:]' ' ' <"$file" | sha256sum | cut -c1-16)
    [ -e "$work/texts/$text" ] || tr -d '\r' <"$file" >"$work/texts/$text"
    echo "$text|$name $version" >>"$work/uses"
  done <<<"$files"
done <"$work/crates"

line=$(printf '=%.0s' {1..100})
{
  echo "Third-party software in the Identity Connector"
  echo
  echo "The program is linked with the crates below: $(wc -l <"$work/crates"), each with its licence as an SPDX expression."
  echo "The licence texts follow. SQLite, in libsqlite3-sys, is in the public domain."
  echo
  awk -F'|' '{ printf "%-44s %s\n", $1 " " $2, $3; if ($4 != "") printf "%-44s %s\n", "", $4 }' "$work/crates"
  LC_ALL=C sort -u "$work/uses" | awk -F'|' '{ of[$1] = of[$1] (of[$1] ? ", " : "") $2 } END { for (text in of) print of[text] "|" text }' |
    LC_ALL=C sort | while IFS='|' read -r crates text; do
      printf '\n%s\n' "$line"
      fold -s -w 100 <<<"$crates" | sed 's/ *$//'
      printf '%s\n\n' "$line"
      cat "$work/texts/$text"
    done
} >"$folder/THIRD-PARTY.txt"

cp "$rust/COPYRIGHT-library.html" "$folder/rust-standard-library.html"

if [ $# -gt 0 ]; then
  mkdir -p "$folder/debian"
  for file in "$@"; do
    # If /lib is a link to /usr/lib, dpkg knows a library by only one of the two paths.
    { dpkg-query --search "$file" 2>/dev/null || dpkg-query --search "*/${file##*/}"; } | cut -d: -f1
  done | LC_ALL=C sort -u | while read -r package; do
    cp --dereference "/usr/share/doc/$package/copyright" "$folder/debian/$package.txt"
  done
  grep -oh '/usr/share/common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]' "$folder"/debian/*.txt | LC_ALL=C sort -u | while read -r text; do
    cp --dereference "$text" "$folder/debian/"
  done
fi
echo "licences of $(wc -l <"$work/crates") crates: $(find "$work/texts" -type f | wc -l) texts"
