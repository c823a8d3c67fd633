#!/usr/bin/env bash
# Instructions of one lookup by code on the front line, from the request's bytes to the answer's bytes, counted by callgrind; fails where
# they are more than ingest/benches/lookup_instructions.limit allows. Another compiler may count otherwise: the limit leaves a tenth.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "counting instructions needs valgrind: apt-get install valgrind"; exit 1; }
built=$(cargo bench --locked --package ingest --bench lookup_instructions --no-run --message-format=json |
  sed -n 's/.*"executable":"\([^"]*\/lookup_instructions-[^"]*\)".*/\1/p' | tail -1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count() { # count <lookups>: instructions of so many lookups
  valgrind --tool=callgrind --toggle-collect='*lookup_instructions*answer_one*' --callgrind-out-file="$work/out" "$built" "$1" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
few=$(count 1000)
many=$(count 11000)
each=$(((many - few) / 10000))
limit=$(cat ingest/benches/lookup_instructions.limit)
echo "a lookup takes $each instructions; the limit is $limit"
[ "$each" -gt 0 ] && [ "$each" -le "$limit" ]
