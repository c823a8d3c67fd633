#!/usr/bin/env bash
# The status table at several populations: bytes a person, lookups in process with and without 100,000 updates a second, snapshot and
# restart; and what Redis takes for the same content at 10 million.
# usage: bench-table.sh [persons ...]      (1,000,000, 10,000,000 and 126,012,510 by default; the last takes 15 GB of disk and memory)
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- 1000000 10000000 126012510
command -v redis-server >/dev/null || { echo "the benchmark needs redis-server: apt-get install redis-server"; exit 1; }
built=$(cargo bench --locked --package status-cache --bench table --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\/table-[^"]*\)".*/\1/p' | tail -1)
work=$(mktemp -d)
redis=
stop() { [ -z "$redis" ] || kill "$redis" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"; }
trap stop EXIT
for persons in "$@"; do "$built" --persons "$persons" --snapshot "$work/snapshot"; done
socket=$work/redis.sock
redis-server --port 0 --unixsocket "$socket" --save '' --appendonly no --dir "$work" >"$work/redis.log" &
redis=$!
until redis-cli -s "$socket" ping >/dev/null 2>&1; do kill -0 $redis || { cat "$work/redis.log"; exit 1; }; sleep 0.1; done
empty=$(redis-cli -s "$socket" info memory | tr -d '\r' | sed -n 's/^used_memory://p')
"$built" --redis --persons 10000000 | redis-cli -s "$socket" --pipe >/dev/null
full=$(redis-cli -s "$socket" info memory | tr -d '\r' | sed -n 's/^used_memory://p')
keys=$(redis-cli -s "$socket" dbsize)
awk -v used=$((full - empty)) -v keys="$keys" 'BEGIN {printf "Redis, the same 8 bytes of key and 24 of value: %d keys, %.1f bytes each\n", keys, used / keys}'
