#!/usr/bin/env bash
# The aggregator beside ClickHouse's own Kafka table engine: the same topic, the same tables with all their views, the same
# engine, alternating rounds, medians.
#
# usage: bench-aggregator.sh [scans] [rounds]        (3,000,000 and 3 by default; some four minutes a round on two cores)
#
#   kafka-engine        a Kafka table in the embedded engine reads the JSON topic through a materialized view
#   aggregator-json     `tongxing aggregator` reads the same topic
#   aggregator-bincode  the same scans in the form that ingest writes by default
#
# Each run has a fresh engine process on a fresh data folder. `cpu` counts every process that the side needs, brokers apart: the
# engine, and for the aggregator the aggregator too, which also tells duplicates, proves rollups and counts each scan once; the
# Kafka table promises at least once. It is counted until the last scan is in the table and, as `cpu_merged`, until the engine has
# merged what was inserted as well. `rows/core` is scans by second of `cpu_merged`: rows a second for each core in use.
#
# Our inserts are checked against their claims (decision 0012); the Kafka table's are not, so the constraint is dropped for it.
#
# The Kafka table is set up as its manual advises for throughput: TONGXING_BENCH_CONSUMERS consumers (one a core), a thread each, and
# blocks of TONGXING_BENCH_BLOCK rows (262144) that a flush interval of TONGXING_BENCH_FLUSH_MS (30000) leaves time to fill; ClickHouse's
# own interval, 7500, gives smaller blocks, which cost it more for a row. The interval delays the last, partial block, so that `rows/s` says
# less of the Kafka table than `rows/core` does.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release
scans=${1:-3000000}
rounds=${2:-3}
partitions=4
block=${TONGXING_BENCH_BLOCK:-262144}
flush_ms=${TONGXING_BENCH_FLUSH_MS:-30000}
consumers=${TONGXING_BENCH_CONSUMERS:-$(nproc)}
port=${TONGXING_BENCH_PORT:-28323}
limit_seconds=600
url=http://127.0.0.1:$port
program="$built/tongxing"
helper="$built/examples/bench_aggregator"
[ "$scans" -ge 1 ] && [ "$rounds" -ge 1 ] || { sed -n '2,5p' "$0"; exit 1; }
[ -n "${TONGXING_BENCH_BUILT:-}" ] ||
  cargo build --release --locked --package launcher --bin tongxing --example bench_aggregator
jars=$(scripts/kafka.sh fetch)
work=$(mktemp -d)
engine= aggregator=
end() { # end <pid>
  kill "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}
stop() {
  [ -z "$aggregator" ] || end "$aggregator"
  [ -z "$engine" ] || end "$engine"
  for form in json bincode; do scripts/kafka.sh stop "$work/kafka-$form" || true; done
  rm -rf "$work"
}
trap stop EXIT

sql() { # sql <database> <statement>
  curl -sS --fail-with-body "$url/?database=$1" --data-binary "$2" || { echo "refused: $2" >&2; return 1; }
}
cpu() { # cpu <pid>: processor seconds of a process
  awk -v tick="$(getconf CLK_TCK)" '{sub(/.*\) /, ""); print ($12 + $13) / tick}' "/proc/$1/stat"
}
peak() { awk '/^VmHWM/ {print int($2 / 1024)}' "/proc/$1/status"; } # peak <pid>: in MiB
broker() { sed -n "s/^bootstrap=//p" "$work/kafka-$1.out"; }

for form in json bincode; do
  scripts/kafka.sh start "$work/kafka-$form" 1 >"$work/kafka-$form.out"
  "$program" topics --kafka-bootstrap "$(broker $form)" --partitions $partitions --kafka-replication 1 --kafka-in-sync 1 >/dev/null
done
"$program" keys --folder "$work/keys" create >/dev/null
"$helper" fill "$scans" $partitions "$(broker json)" "$(broker bincode)"

start_engine() {
  "$program" clickhouse --data "$work/data-$1" --listen 127.0.0.1:$port --allow-connect "${2##*:}" >"$work/engine.log" 2>&1 &
  engine=$!
  until curl -sf "$url/ping" >/dev/null; do kill -0 $engine || { cat "$work/engine.log"; exit 1; }; sleep 0.1; done
  "$helper" schema "$url" bench
}
await_rows() { # await_rows <file with the side's log>
  local deadline=$((SECONDS + limit_seconds))
  until [ "$(sql bench 'SELECT count() FROM scans')" -ge "$scans" ]; do
    [ $SECONDS -lt $deadline ] || { echo "not done after $limit_seconds s"; tail -n 20 "$1"; exit 1; }
    sleep 0.5
  done
}
await_merges() {
  local quiet=0
  while [ $quiet -lt 4 ]; do
    if [ "$(sql bench 'SELECT count() FROM system.merges')" -eq 0 ]; then quiet=$((quiet + 1)); else quiet=0; fi
    sleep 0.5
  done
}
# What is stored must be everything, once, in the raw table and in the rollups.
check() {
  local stored counted
  stored=$(sql bench "SELECT count(), uniqExact(log_partition, log_offset), countIf(registration = 1 AND site_kind = 'venue'),
    countIf(site_kind = 'grid') FROM scans FORMAT CSV")
  counted=$(sql bench "SELECT $scans, $scans, (SELECT sum(registrations) FROM venue_hour), (SELECT sum(registrations + refusals) FROM grid_day)
    FORMAT CSV")
  [ "$stored" = "$counted" ] || { echo "$1: stored $stored, counted $counted"; exit 1; }
}
line() { # line <side> <round> <seconds> <cpu aggregator> <cpu engine> <cpu merged of both> <peak aggregator> <peak engine>
  printf '%s %s %s %s %s %s %s %s\n' "$@" >>"$work/lines"
  printf '%s\n' "$*" | awk -v n="$scans" '{printf "round %d %-18s %8d rows/s  cpu %6.1f s aggregator + %6.1f s engine, merged %6.1f s  %8d rows/core  peak %4d + %4d MiB\n",
    $2, $1, n / $3, $4, $5, $6, n / $6, $7, $8}'
}
stop_engine() { end "$engine"; engine=; rm -rf "$work/data-$1"; }

kafka_engine() { # kafka_engine <round>
  local before started stored_at stored merged
  start_engine kafka "$(broker json)"
  sql bench "CREATE TABLE queue (version UInt32, scan_id UUID, person UInt64,
    $(sql bench "SELECT arrayStringConcat(groupArray(concat(name, ' ', type)), ', ') FROM (SELECT name, type FROM system.columns
      WHERE database = 'bench' AND table = 'scans' AND name IN ('kind', 'site_kind', 'site', 'checkpoint', 'region', 'venue_type', 'direction',
      'band', 'decidegrees', 'colour', 'categories', 'status_version', 'disposition', 'sex', 'carrier', 'operator', 'event_time', 'received_at',
      'corrects', 'party', 'synthetic') ORDER BY position)" | sed "s/\\\\'/'/g"), birth_year Nullable(UInt16))
    ENGINE = Kafka SETTINGS kafka_broker_list = '$(broker json)', kafka_topic_list = 'scans', kafka_group_name = 'engine-$1',
    kafka_format = 'JSONEachRow', kafka_num_consumers = $consumers, kafka_thread_per_consumer = 1, kafka_max_block_size = $block,
    kafka_poll_max_batch_size = 65536, kafka_flush_interval_ms = $flush_ms"
  # It asks for a claim, in the database of whoever inserts; a Kafka table inserts from the default one, and claims nothing.
  sql bench "ALTER TABLE scans DROP CONSTRAINT sent_by_the_owner"
  before=$(cpu $engine) started=$(date +%s.%N)
  sql bench "CREATE MATERIALIZED VIEW queue_view TO scans AS SELECT _partition AS log_partition, _offset AS log_offset, scan_id, person,
    kind, site_kind, site, checkpoint, region, venue_type, direction, band, decidegrees, colour, categories, status_version, disposition, sex,
    if(birth_year IS NULL, -1, least(greatest(toYear(event_time) - birth_year, 0), 200)) AS age, carrier, operator, event_time, received_at,
    _timestamp_ms AS appended_at, corrects, party, synthetic,
    kind NOT IN ('display', 'release_notice') AND disposition != 'refused' AS registration,
    kind NOT IN ('display', 'release_notice') AND band = 'fever' AS fever,
    kind NOT IN ('display', 'release_notice') AND colour = 1 AS red_encounter,
    kind NOT IN ('display', 'release_notice') AND disposition = 'refused' AS refusal
    FROM queue"
  await_rows "$work/engine.log"
  stored_at=$(date +%s.%N) stored=$(cpu $engine)
  sql bench "DROP VIEW queue_view"
  sql bench "DROP TABLE queue"
  await_merges
  merged=$(cpu $engine)
  check kafka-engine
  line kafka-engine "$1" "$(minus "$stored_at" "$started")" 0 "$(minus "$stored" "$before")" "$(minus "$merged" "$before")" 0 "$(peak $engine)"
  stop_engine kafka
}
minus() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.3f", a - b}'; }

ours() { # ours <form> <round>
  local before started stored_at stored merged own resident
  start_engine "$1" "$(broker "$1")"
  # Where the last round left off.
  java -cp "$jars/*" org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "$(broker "$1")" --delete \
    --group aggregator >"$work/group.log" 2>&1 || grep -q "does not exist" "$work/group.log" || { cat "$work/group.log"; exit 1; }
  before=$(cpu $engine) started=$(date +%s.%N)
  "$program" aggregator --kafka-bootstrap "$(broker "$1")" --partitions $partitions --kafka-replication 1 --kafka-in-sync 1 \
    --clickhouse-url "$url" --clickhouse-database bench --keys "$work/keys" --listen "127.0.0.1:$((port + 1))" >"$work/aggregator.log" 2>&1 &
  aggregator=$!
  await_rows "$work/aggregator.log"
  stored_at=$(date +%s.%N) stored=$(cpu $engine)
  curl -s "http://127.0.0.1:$((port + 1))/metrics" >"$work/metrics-$1"
  own=$(cpu $aggregator) resident=$(peak $aggregator)
  end $aggregator; aggregator=
  await_merges
  merged=$(cpu $engine)
  check "aggregator-$1"
  "$program" check --clickhouse-url "$url" --clickhouse-database bench >"$work/check.log" || { cat "$work/check.log"; exit 1; }
  line "aggregator-$1" "$2" "$(minus "$stored_at" "$started")" "$own" "$(minus "$stored" "$before")" \
    "$(awk -v a="$own" -v b="$(minus "$merged" "$before")" 'BEGIN {print a + b}')" "$resident" "$(peak $engine)"
  stop_engine "$1"
}

for ((n = 1; n <= rounds; n++)); do
  kafka_engine $n
  ours json $n
  ours bincode $n
done

# Medians of each column; the ratio is that of rows/core to the Kafka table's.
awk -v n="$scans" -v cores="$(nproc)" '
  function median(side, column,    count, i, j, t, v) {
    count = 0
    for (i = 1; i <= lines[side]; i++) v[++count] = value[side, i, column]
    for (i = 2; i <= count; i++) { t = v[i]; for (j = i - 1; j > 0 && v[j] > t; j--) v[j + 1] = v[j]; v[j + 1] = t }
    return count % 2 ? v[(count + 1) / 2] : (v[count / 2] + v[count / 2 + 1]) / 2
  }
  {
    lines[$1]++
    for (column = 3; column <= 8; column++) value[$1, lines[$1], column] = $column
  }
  END {
    split("kafka-engine aggregator-json aggregator-bincode", sides, " ")
    printf "\nmedians of %d rounds, %d scans, %d cores shared with the broker\n", lines["kafka-engine"], n, cores
    printf "%-20s %9s %12s %12s %12s %11s %7s %12s\n", "", "rows/s", "cpu own s", "cpu engine s", "cpu_merged s", "rows/core", "ratio", "peak own MiB"
    for (i = 1; i <= 3; i++) {
      side = sides[i]
      rate = n / median(side, 6)
      if (i == 1) reference = rate
      printf "%-20s %9d %12.1f %12.1f %12.1f %11d %7.2f %12d\n", side, n / median(side, 3), median(side, 4), median(side, 5), median(side, 6),
        rate, rate / reference, median(side, 7)
    }
  }' "$work/lines"
