#!/usr/bin/env bash
# Single durable check-ins through Kafka: one request a scan, one message a scan, answered once the broker has it. Broker, ingest and
# generator share this machine; what each of them uses is printed.
#
# usage: bench-check-ins.sh [a second, offered] [rounds] [seconds a round]      (40,000, 5 and 10 by default)
#
# A rate beyond what the machine takes shows how much it takes; latency then says only that it is saturated, so a further round runs at
# half of the median rate and shows the latency. `cores` are processor seconds by second of the round. `bare` is what the same process
# answers a second to GET /livez in two seconds before the round, with wrk on the same cores: how fast the machine is just then.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release
offered=${1:-40000}
rounds=${2:-5}
seconds=${3:-10}
connections=${TONGXING_BENCH_CONNECTIONS:-256}
partitions=12
listen=127.0.0.1:28480
[ -n "${TONGXING_BENCH_BUILT:-}" ] || cargo build --release --locked --package launcher --package loadtest
command -v wrk >/dev/null || { echo "the benchmark needs wrk: apt-get install wrk"; exit 1; }
program="$built/tongxing"
jars=$(scripts/kafka.sh fetch)
work=$(mktemp -d)
ingest=
stop() {
  [ -z "$ingest" ] || { kill "$ingest" 2>/dev/null || true; wait "$ingest" 2>/dev/null || true; }
  scripts/kafka.sh stop-now "$work/kafka" || true
  rm -rf "$work"
}
trap stop EXIT

export TONGXING_KAFKA_JVM="-Xms512m -Xmx512m -XX:+UseSerialGC -XX:-UsePerfData"
scripts/kafka.sh start "$work/kafka" 1 >"$work/kafka.out"
export TONGXING_KAFKA_BOOTSTRAP TONGXING_KAFKA_REPLICATION=1 TONGXING_KAFKA_IN_SYNC=1 TONGXING_PARTITIONS=$partitions
TONGXING_KAFKA_BOOTSTRAP=$(sed -n 's/^bootstrap=//p' "$work/kafka.out")
"$program" topics >/dev/null
"$program" keys --folder "$work/keys" create >/dev/null
"$program" ingest --listen $listen --keys "$work/keys" --data "$work/data" >"$work/ingest.log" 2>&1 &
ingest=$!
until curl -sf "http://$listen/readyz" >/dev/null; do kill -0 $ingest || { cat "$work/ingest.log"; exit 1; }; sleep 0.1; done
broker=$(cat "$work/kafka/broker-1/pid")

in_log() { # records of the topic
  java -cp "$jars/*" org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$TONGXING_KAFKA_BOOTSTRAP" --topic scans 2>/dev/null |
    awk -F: '{sum += $3} END {print sum}'
}
bare() { wrk -t1 -c64 -d2s "http://$listen/livez" | awk '/Requests\/sec/ {print int($2)}'; }
round() { # round <a second>: acknowledged, the rate, milliseconds of p50, p99, p99.9, cores of ingest, broker, generator
  # One thread is enough for the generator, and threads that wake each other cost more.
  TOKIO_WORKER_THREADS=1 "$built/loadtest" --ingest "http://$listen" --secrets "$work/keys/api-secrets" --lookups 0 --check-ins "$1" --seconds "$seconds" \
    --connections "$connections" --ingest-only --process ingest=$ingest --process "broker=$broker" --json "$work/result.json" \
    >"$work/load.out" 2>&1 || { cat "$work/load.out"; return 1; }
  python3 - "$work/result.json" <<'PYTHON'
import json, sys
result = json.load(open(sys.argv[1]))
done, cores = result["check_ins"], result["cores"]
if set(done["statuses"]) - {"201", "403"} or done["broken"]:
    sys.exit(f"not every check-in went straight into the log: {done['statuses']}, broken {done['broken']}")
latency = done["latency_from_planned_time_us"]
print(result["acknowledged"], round(result["acknowledged"] / result["elapsed_seconds"]),
      *(f"{latency[q] / 1000:.2f}" for q in ("p50", "p99", "p999")), *(f"{cores[name]:.2f}" for name in ("ingest", "broker", "generator")))
PYTHON
}
line() { # line <name> [further]
  awk -v name="$1" -v further="${2:-}" '{printf "%-12s %8d/s   p50 %7s ms  p99 %7s ms  p99.9 %7s ms   cores: ingest %s, broker %s, generator %s  %s\n", name, $2, $3, $4, $5, $6, $7, $8, further}'
}
acknowledged=0
round 5000 >"$work/warm"; acknowledged=$((acknowledged + $(cut -d' ' -f1 "$work/warm")))
for ((n = 1; n <= rounds; n++)); do
  bare=$(bare)
  round "$offered" >"$work/round"
  acknowledged=$((acknowledged + $(cut -d' ' -f1 "$work/round")))
  tee -a "$work/rounds" <"$work/round" | line "round $n" "bare $bare/s"
done
median=$(awk '{print $2}' "$work/rounds" | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}')
round $((median / 2)) >"$work/round"
acknowledged=$((acknowledged + $(cut -d' ' -f1 "$work/round")))
line "half of it" <"$work/round"
logged=$(in_log)
echo "median $median/s of $offered/s offered, on $(nproc) cores; $acknowledged acknowledged, $logged in the log"
[ "$logged" -eq "$acknowledged" ] || { echo "the log does not hold what was acknowledged"; exit 1; }
