#!/usr/bin/env bash
# The status feed through Kafka, on one broker and two ingest nodes of this machine: how soon a fact that one node acknowledged decides
# the answers of both, beside 10,000 facts a second; and lookups at 20,000 a second while Kafka is there and while it is away.
#
# usage: bench-kafka-feed.sh [facts a second] [lookups a second] [seconds a phase]      (10,000, 20,000 and 20 by default)
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release
facts=${1:-10000}
rate=${2:-20000}
seconds=${3:-20}
[ -n "${TONGXING_BENCH_BUILT:-}" ] ||
  cargo build --release --locked --package launcher --package loadtest --bin tongxing --bin loadtest --bin propagation
program="$built/tongxing"
work=$(mktemp -d)
pids=()
stop() {
  [ -z "${broker:-}" ] || kill -CONT "$broker" 2>/dev/null || true
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  scripts/kafka.sh stop-now "$work/kafka" || true
  rm -rf "$work"
}
trap stop EXIT

export TONGXING_KAFKA_JVM="-Xms512m -Xmx512m -XX:+UseSerialGC -XX:-UsePerfData"
scripts/kafka.sh start "$work/kafka" 1 >"$work/kafka.out"
export TONGXING_KAFKA_BOOTSTRAP TONGXING_KAFKA_REPLICATION=1 TONGXING_KAFKA_IN_SYNC=1
TONGXING_KAFKA_BOOTSTRAP=$(sed -n 's/^bootstrap=//p' "$work/kafka.out")
broker=$(cat "$work/kafka/broker-1/pid")
"$program" topics >/dev/null
"$program" keys --folder "$work/keys" create >/dev/null
for port in 28480 28481; do
  "$program" ingest --listen 127.0.0.1:$port --keys "$work/keys" --data "$work/data-$port" >"$work/ingest-$port.log" 2>&1 &
  pids+=($!)
  until curl -sf http://127.0.0.1:$port/readyz >/dev/null; do kill -0 "${pids[-1]}" || { cat "$work/ingest-$port.log"; exit 1; }; sleep 0.1; done
done

echo "propagation through Kafka, two nodes:"
"$built/propagation" --node http://127.0.0.1:28480 --node http://127.0.0.1:28481 --secrets "$work/keys/api-secrets" \
  --facts "$facts" --seconds "$seconds" --objective-ms 300 2>/dev/null

lookups() { # lookups <name> <check-ins a second> [stop the broker once the load is under way]
  : >"$work/progress"
  "$built/loadtest" --ingest http://127.0.0.1:28480 --secrets "$work/keys/api-secrets" --lookups "$rate" --check-ins "$2" --seconds "$seconds" \
    --ingest-only --json "$work/result.json" 2>"$work/progress" >"$work/load.out" &
  local load=$!
  if [ -n "${3:-}" ]; then
    until grep -q 'lookups/s' "$work/progress"; do kill -0 $load || { cat "$work/progress"; exit 1; }; sleep 0.1; done
    kill -STOP "$broker"
  fi
  wait $load || { cat "$work/progress"; exit 1; }
  kill -CONT "$broker"
  printf '%-60s' "$1"
  python3 - "$work/result.json" <<'PYTHON'
import json, sys
result = json.load(open(sys.argv[1]))
lookups, check_ins = result["lookups"], result["check_ins"]
if set(lookups["statuses"]) != {"200"} or lookups["broken"]:
    sys.exit(f"lookups were refused or broke: {lookups['statuses']}, broken {lookups['broken']}")
p50, p99, p999 = (lookups["latency_from_planned_time_us"][q] / 1000 for q in ("p50", "p99", "p999"))
print(f"{lookups['per_second']:6.0f}/s  p50 {p50:5.2f} ms  p99 {p99:5.2f} ms  p99.9 {p999:5.2f} ms", "" if not check_ins["statuses"] else f"  check-ins {check_ins['statuses']}")
PYTHON
}
lookups "lookups while Kafka is there" 0
lookups "lookups while Kafka is away" 0 away
lookups "lookups while Kafka is there, beside 500 check-ins a second" 500
lookups "lookups while Kafka is away, beside 500 check-ins a second" 500 away
