#!/usr/bin/env bash
# A whole province through the front door: import of every person and of facts about 2 % of them, memory of the whole process, lookups
# at 20,000 a second while persons are imported again and while a snapshot is written, each in turns with quiet phases, and the
# restart from the snapshot with the page cache dropped. Lookups are of 20,000 further people, from the planned time.
#
# usage: bench-province.sh [local|kafka] [persons] [lookups a second] [seconds a phase] [pairs of phases]
#        (local, 126,012,510, 20,000, 10 and 5 by default; that takes some 20 GB of disk, 6 GB of memory and 15 minutes)
#
# local runs `tongxing up` without its store, kafka `tongxing ingest` and one broker. The node is told how many persons to expect;
# TONGXING_PERSONS_EXPECTED=0 has it grow in steps.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release
log=${1:-local}
persons=${2:-126012510}
rate=${3:-20000}
seconds=${4:-10}
rounds=${5:-5}
[ "$log" = local ] || [ "$log" = kafka ] || { echo "the first argument must be local or kafka, not $log"; exit 1; }
[ -n "${TONGXING_BENCH_BUILT:-}" ] ||
  cargo build --release --locked --package launcher --package loadtest --bin tongxing --bin loadtest --bin province
work=$(mktemp -d "${TONGXING_BENCH_FOLDER:-/tmp}/province.XXXXXX")
pid=
stop() {
  [ -z "$pid" ] || { kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; }
  [ "$log" = local ] || scripts/kafka.sh stop-now "$work/kafka" || true
  rm -rf "$work"
}
trap stop EXIT
snapshot=$work/data/status.snapshot
writing=$work/data/status.writing
keys=$work/data/keys
url=http://127.0.0.1:28080
export TONGXING_PERSONS_CAPACITY=$((persons + 1000000))
export TONGXING_PERSONS_EXPECTED=${TONGXING_PERSONS_EXPECTED:-$persons}
if [ "$log" = kafka ]; then
  keys=$work/keys
  export TONGXING_KAFKA_JVM="-Xms512m -Xmx512m -XX:+UseSerialGC -XX:-UsePerfData"
  scripts/kafka.sh start "$work/kafka" 1 >"$work/kafka.out"
  export TONGXING_KAFKA_BOOTSTRAP TONGXING_KAFKA_REPLICATION=1 TONGXING_KAFKA_IN_SYNC=1
  TONGXING_KAFKA_BOOTSTRAP=$(sed -n 's/^bootstrap=//p' "$work/kafka.out")
  "$built/tongxing" topics >/dev/null
  "$built/tongxing" keys --folder "$keys" create >/dev/null
fi

start() { # start <seconds between snapshots>: sets $took to the seconds until the node is ready
  local began
  began=$(date +%s.%N)
  if [ "$log" = kafka ]; then
    "$built/tongxing" ingest --listen 127.0.0.1:28080 --keys "$keys" --data "$work/data" --snapshot-seconds "$1" >"$work/node.log" 2>&1 &
  else
    "$built/tongxing" up --data "$work/data" --ingest-listen 127.0.0.1:28080 --query-listen 127.0.0.1:28081 \
      --clickhouse-url http://127.0.0.1:9 --snapshot-seconds "$1" >"$work/node.log" 2>&1 &
  fi
  pid=$!
  until curl -sf -o /dev/null $url/readyz; do kill -0 $pid 2>/dev/null || { cat "$work/node.log"; exit 1; }; sleep 0.05; done
  took=$(awk -v a="$began" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}')
}
end() { kill "$pid"; wait "$pid" || true; pid=; }
used() { # processor seconds of the node
  awk -v hertz="$(getconf CLK_TCK)" '{print ($14 + $15) / hertz}' "/proc/$pid/stat"
}
known() { curl -sf $url/readyz | python3 -c 'import json, sys; a = json.load(sys.stdin); print(a["persons"], a["persons_with_facts"])'; }
resident() { awk '/^VmRSS/ {printf "%.3f GB", $2 * 1024 / 1e9}' "/proc/$pid/status"; }
import() { # import <kind> <secret> <first> <persons>: from a pipe, so that the lines need no disk
  rm -f "$work/$1.csv"; mkfifo "$work/$1.csv"
  nice -n 10 "$built/province" "$1" --first "$3" --persons "$4" >"$work/$1.csv" &
  "$built/tongxing" import "$1" "$work/$1.csv" --ingest-url $url --secret-file "$keys/api-secrets/$2" >"$work/import.log" 2>&1 ||
    { tail -5 "$work/import.log"; exit 1; }
}
lookups() { # lookups <phase>: p50, p99 and p99.9 in milliseconds; compare takes them from the file of this phase
  "$built/loadtest" --ingest $url --secrets "$keys/api-secrets" --lookups "$rate" --check-ins 0 --seconds "$seconds" --ingest-only \
    --json "$work/result.json" >"$work/load.log" 2>&1 || { tail -5 "$work/load.log"; exit 1; }
  python3 - "$work/result.json" "$1" "$work/phase.$1" <<'PYTHON'
import json, sys
result = json.load(open(sys.argv[1]))["lookups"]
if set(result["statuses"]) != {"200"} or result["broken"]:
    sys.exit(f"lookups were refused or broke: {result['statuses']}, broken {result['broken']}")
p50, p99, p999 = (result["latency_from_planned_time_us"][q] / 1000 for q in ("p50", "p99", "p999"))
open(sys.argv[3], "a").write(f"{p50} {p99} {p999}\n")
print(f"lookups, {sys.argv[2]:<10} {result['per_second']:6.0f}/s  p50 {p50:5.2f} ms  p99 {p99:5.2f} ms  p99.9 {p999:5.2f} ms", flush=True)
PYTHON
}
compare() { # compare <phase>: its p99 beside that of the quiet phases it took turns with, which are used up
  python3 - "$1" "$work/phase.$1" "$work/phase.quiet" <<'PYTHON'
import statistics, sys
busy, quiet = ([float(line.split()[1]) for line in open(path)] for path in sys.argv[2:])
ratios = sorted(b / q for b, q in zip(busy, quiet))
print(f"{sys.argv[1]}: median p99 {statistics.median(busy):.2f} ms, quiet {statistics.median(quiet):.2f} ms;"
      f" p99 changes by a factor of {statistics.median(ratios):.2f} (median of {len(ratios)} pairs, {ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)
PYTHON
  rm -f "$work/phase.quiet" "$work/phase.$1"
}

start 86400
began=$(date +%s.%N); before=$(used)
import persons identity-service 0 "$persons"
awk -v n="$persons" -v a="$began" -v b="$(date +%s.%N)" -v used="$(awk -v a="$before" -v b="$(used)" 'BEGIN {print b - a}')" \
  'BEGIN {printf "import: %d persons in %.0f s, %.0f/s; the node used %.2f microseconds of a core for each, %.0f/s a core\n", n, b - a, n / (b - a), used / n * 1e6, n / used}'
began=$(date +%s.%N)
import facts health-feed 0 "$persons"
read -r of holders < <(known)
awk -v n="$holders" -v a="$began" -v b="$(date +%s.%N)" 'BEGIN {printf "import: %d facts in %.0f s, %.0f/s, in the order of their lines\n", n, b - a, n / (b - a)}'
echo "$of persons, $holders with facts; the whole process takes $(resident)"
again=$((seconds * 600000 < persons ? seconds * 600000 : persons))
lookups warming >/dev/null
for _ in $(seq "$rounds"); do
  lookups quiet
  import persons identity-service 0 "$again" & importing=$!
  sleep 1
  lookups importing
  kill -0 $importing 2>/dev/null || echo "(the import was complete before the lookups were)"
  wait $importing
  sleep 2
done
compare importing
end
# Nothing of the node's is left in the page cache.
find "$work/data" -type f -exec dd if={} iflag=nocache count=0 status=none \;
start 30
echo "restart from a snapshot of $(stat -c %s "$snapshot" | awk '{printf "%.2f GB", $1 / 1e9}'), with nothing in the page cache: ready after $took s; $(known | cut -d' ' -f1) persons; the whole process takes $(resident)"
# What was dropped goes back to a virtual machine's host meanwhile, and halts the machine now and then (docs/decisions/0016).
sleep 20
lookups warming >/dev/null
for _ in $(seq "$rounds"); do
  while [ -e "$writing" ]; do sleep 0.1; done
  sleep 1
  lookups quiet
  [ ! -e "$writing" ] || echo "(a snapshot began before these lookups were complete)"
  until [ -e "$writing" ]; do sleep 0.1; done
  lookups snapshot
  [ -e "$writing" ] || echo "(the snapshot was complete before the lookups were)"
done
compare snapshot
