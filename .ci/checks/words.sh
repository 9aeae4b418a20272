#!/usr/bin/env bash
# Fails on words that the glossary (words.txt, beside this file) replaces, in every text of the project.
# Not searched: the glossary itself, lock files, and what is not the project's own text.
set -euo pipefail
cd "$(dirname "$0")/../.."

files=(. ':!.ci/checks/words.txt' ':!LICENSE' ':!*.lock' ':!tests/npm/package-lock.json' ':!fuzz/corpus' ':!tests/cases')
found=0
while read -r line; do
  [[ $line == '' || $line == '#'* ]] && continue
  word=${line%% => *} instead=${line#* => }
  # 1 is "no match"; any other code is an error, such as an invalid expression in the list.
  git grep --untracked -nIP "(?<![A-Za-z])(?i:$word)(?![a-z])" -- "${files[@]}" || { [ $? = 1 ] && continue; exit 2; }
  printf '  ^ write instead: %s\n\n' "$instead"
  found=1
done < .ci/checks/words.txt
exit $found
