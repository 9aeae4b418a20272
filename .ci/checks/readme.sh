#!/usr/bin/env bash
# Runs every command of the README, of docs/getting-started.md and of docs/testing.md as a reader would paste it, in bash, zsh,
# dash and fish, and compares what they print with what the page shows. `cargo test` is among them.
#
#   .ci/checks/readme.sh            all but the commands that need Docker, which it lists; needs zsh, dash and fish
#   .ci/checks/readme.sh --docker   only the commands that need Docker
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
mode=${1:-}
shells=(bash zsh dash fish)

work=$(mktemp -d)
running=()
finish() {
  for pid in "${running[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
say() { printf '\n== README and docs: %s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# Each block of commands becomes a file, and so does the output that follows it: 01.sh, 01.text, 02.sh, ...
# A block in a list is indented by three blanks.
pages=(README.md docs/getting-started.md docs/testing.md)
cat "${pages[@]}" | sed 's/^   //' | awk -v folder="$work" '
  /^```sh$/ { name = sprintf("%s/%02d.sh", folder, ++number); next }
  /^```text$/ { if (number) name = sprintf("%s/%02d.text", folder, number); next }
  /^```$/ { name = ""; next }
  name { print > name }
'
blocks=("$work"/*.sh)
[ "${#blocks[@]}" -ge 13 ] || fail "only ${#blocks[@]} blocks of commands were found in ${pages[*]}"

[ "$mode" != --docker ] || shells=(bash)
say "check that no block has a comment and that every shell can parse it"
for block in "${blocks[@]}"; do
  if grep -nE '(^|[[:space:]])#' "$block"; then fail "a block has a comment, which zsh would run as a command"; fi
  for shell in "${shells[@]}"; do
    "$shell" -n "$block" || fail "$shell cannot read: $(cat "$block")"
  done
done

# Starts a block that does not end by itself, and waits until its connector is ready.
start() {
  setsid "$1" "$2" >"$work/started" 2>&1 & running+=($!)
  for _ in $(seq 3000); do
    curl -fs -o "$work/ready" http://127.0.0.1:8080/readyz && return
    kill -0 "${running[-1]}" 2>/dev/null || break
    sleep 0.2
  done
  cat "$work/started" >&2
  fail "the connector did not become ready: $(cat "$2")"
}
stop() {
  for pid in "${running[@]}"; do
    kill -INT -- "-$pid"
    wait "$pid" || true
  done
  running=()
  for _ in $(seq 100); do curl -s -o "$work/gone" http://127.0.0.1:8080/readyz || return 0; sleep 0.1; done
  fail "port 8080 is still in use"
}

# Replaces what differs from run to run, such as ids and times.
normalize() { sed -E 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UUID/g; s/ +[0-9.]+ ms/ N ms/; s/("id":)[0-9]{6,}/\1N/; s/\r$//'; }

# Every line that the page shows is printed.
compare() {
  local line
  normalize <"$2" >"$work/printed"
  while IFS= read -r line; do
    [ -z "$line" ] || grep -qxF -- "$line" "$work/printed" || { cat "$2" >&2; fail "the page shows, and $1 did not print: $line"; }
  done < <(normalize <"${2%.*}.text")
}

if curl -s -o "$work/taken" http://127.0.0.1:8080/; then fail "port 8080 is in use: stop the process that listens on it"; fi
docker=() paste=() # paste: blocks that run one after the other in one shell
for block in "${blocks[@]}"; do
  case $(cat "$block") in
    "cargo run -- demo" | *"cargo test"* | *"identity-connector serve"*) ;;
    *docker*) docker+=("$block") ;;
    *badge-4711*) ;; # below, with serve
    *) paste+=("$block") ;;
  esac
done

if [ "$mode" = --docker ]; then
  for block in "${docker[@]}"; do
    say "$(cat "$block")"
    head -n -1 "$block" >"$work/before" && bash "$work/before"
    tail -n 1 "$block" >"$work/last" && start bash "$work/last"
    curl -fsL -o "$work/page" http://127.0.0.1:8080/
    stop
  done
  docker compose down
  exit
fi

say "cargo run -- demo"
echo "cargo run -- demo" >"$work/demo"
grep -qx "$(cat "$work/demo")" "${blocks[0]}" || fail "the first command is not: cargo run -- demo"
start bash "$work/demo"

say "with the demo running"
# In a temporary folder, which is removed with the files that they write, such as code.png.
mkdir "$work/here" && ln -s "$root/target" "$root/config" "$work/here/"
for shell in "${shells[@]}"; do
  command -v "$shell" >/dev/null || fail "$shell is not installed (Debian: zsh dash fish)"
  # One session, since a block uses the variables of the block before it. What each prints is compared with the page: an exit
  # code says less, as a gate that stays closed has one too.
  for block in "${paste[@]}"; do
    name=$(basename "$block" .sh)
    printf 'echo; echo "-- %s"\n' "$name"
    cat "$block"
  done >"$work/session"
  (cd "$work/here" && "$shell" "$work/session") >"$work/session.out" 2>&1 || true
  for block in "${paste[@]}"; do
    name=$(basename "$block" .sh)
    [ -e "${block%.sh}.text" ] || fail "the page does not show what this prints: $(cat "$block")"
    awk -v name="$name" '/^-- [0-9]+$/ { on = ($2 == name); next } on' "$work/session.out" >"${block%.sh}.out"
    compare "$shell" "${block%.sh}.out"
  done
  [ "$(head -c 4 "$work/here/code.png" | tail -c 3)" = PNG ] || fail "$shell: code.png is not a PNG image"
  rm -f "$work/here/code.png"
  echo "$shell: ${#paste[@]} blocks"
done

for block in "${blocks[@]}"; do
  if grep -q CONNECTOR_URL "$block"; then say "$(tail -n 1 "$block")"; bash -c "$(grep CONNECTOR_URL "$block")"; fi
done
stop

for block in "${blocks[@]}"; do
  grep -q "identity-connector serve" "$block" || continue
  say "$(tail -n 1 "$block")"
  cd "$work/here"
  scan=$(grep -l badge-4711 "${blocks[@]}")
  for shell in "${shells[@]}"; do
    start "$shell" "$block"
    "$shell" "$scan" >"${scan%.sh}.out"
    compare "$shell" "${scan%.sh}.out"
    stop
    rm -rf data
  done
  cd "$root"
done

for block in "${blocks[@]}"; do
  grep -q '^cargo test' "$block" || continue
  while IFS= read -r command; do
    case $command in CONNECTOR_URL=*) continue ;; esac
    say "$command"
    bash -c "$command"
  done <"$block"
done

say "not run, because these need Docker (.ci/checks/readme.sh --docker):"
cat "${docker[@]}"
