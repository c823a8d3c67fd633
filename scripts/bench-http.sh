#!/usr/bin/env bash
# Lookups over HTTP beside a bare axum handler with the same answer: alternating rounds on the same cores, the same public
# generator (wrk), medians. Both sides' figures are printed.
# usage: bench-http.sh [rounds] [seconds a round]
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
seconds=${2:-5}
command -v wrk >/dev/null || { echo "the benchmark needs wrk: apt-get install wrk"; exit 1; }
cargo build --release --locked --package launcher --package loadtest --bin tongxing --bin loadtest --example bare_axum
work=$(mktemp -d)
pids=()
stop() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$work"; }
trap stop EXIT
target/release/tongxing up --data "$work/data" --ingest-listen 127.0.0.1:28080 --query-listen 127.0.0.1:28081 \
  --clickhouse-listen 127.0.0.1:28123 >"$work/up.log" 2>&1 &
pids+=($!)
until curl -sf http://127.0.0.1:28080/readyz >/dev/null; do sleep 0.1; done
secret() { cat "$work/data/keys/api-secrets/$1"; }
post() { curl -sf -X POST -H "Authorization: Bearer $(secret "$1")" -H 'Content-Type: application/json' -d "$3" "http://127.0.0.1:28080$2"; }
document='{"kind":"resident_id","number":"11010519491231002X"}'
post identity-service /v1/persons "{\"document\":$document,\"name\":\"张伟\",\"phone\":\"13812345678\"}" >/dev/null
code=$(post identity-service /v1/codes "{\"document\":$document}" | cut -d'"' -f4)
curl -sf -H "Authorization: Bearer $(secret tester)" "http://127.0.0.1:28080/v1/codes/$code" >"$work/answer.json"
target/release/examples/bare_axum 127.0.0.1:28090 "$work/answer.json" &
pids+=($!)
until curl -sf "http://127.0.0.1:28090/v1/codes/x" >/dev/null; do sleep 0.1; done
round() { # round <port>
  wrk -t1 -c64 "-d${seconds}s" --latency -H "Authorization: Bearer $(secret tester)" "http://127.0.0.1:$1/v1/codes/$code" >"$work/wrk.out"
  if grep -q "Non-2xx" "$work/wrk.out"; then echo "the service refused requests:"; cat "$work/wrk.out"; exit 1; fi
  awk '/Requests\/sec/ {print int($2)}' "$work/wrk.out"
}
round 28080 >/dev/null; round 28090 >/dev/null # warm
for ((n = 1; n <= rounds; n++)); do
  ours=$(round 28080)
  bare=$(round 28090)
  echo "$ours $bare" | tee -a "$work/rounds" | awk -v n="$n" '{printf "round %d: lookup %d/s, bare axum %d/s, ratio %.3f\n", n, $1, $2, $1/$2}'
done
median() { sort -n | awk '{v[NR]=$1} END {print (NR%2) ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2}'; }
ours=$(awk '{print $1}' "$work/rounds" | median)
bare=$(awk '{print $2}' "$work/rounds" | median)
ratio=$(awk '{print $1/$2}' "$work/rounds" | median)
echo "median: lookup $ours/s, bare axum $bare/s, ratio of rounds $ratio (answer $(stat -c %s "$work/answer.json") bytes, $(nproc) cores shared with wrk)"
