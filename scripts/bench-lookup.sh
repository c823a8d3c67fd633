#!/usr/bin/env bash
# Lookups over HTTP beside others that answer the same bytes: a bare axum handler, a bare hyper server with one runtime a core, nginx
# returning a constant, and Redis GET without pipelining. One run on the same cores, alternating rounds, medians. HTTP is driven by wrk;
# Redis, which speaks no HTTP, by its own redis-benchmark with as many connections. Then batches, and latency at half of what lookups
# reach while check-ins run beside them.
# usage: bench-lookup.sh [rounds] [seconds a round]      (5 and 5 by default)
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release
rounds=${1:-5}
seconds=${2:-5}
connections=64
for tool in wrk nginx redis-server redis-benchmark; do
  PATH=$PATH:/usr/sbin command -v $tool >/dev/null || { echo "the benchmark needs $tool: apt-get install wrk nginx-light redis-server"; exit 1; }
done
[ -n "${TONGXING_BENCH_BUILT:-}" ] ||
  cargo build --release --locked --package launcher --package loadtest --bin tongxing --bin loadtest --example bare_axum --example bare_hyper
work=$(mktemp -d)
pids=()
stop() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$work"; }
trap stop EXIT
wait_for() { until curl -sf -o /dev/null "$1"; do kill -0 "$2" 2>/dev/null || { echo "$1 does not answer"; cat "$work"/*.log; exit 1; }; sleep 0.1; done; }

"$built/tongxing" up --data "$work/data" --ingest-listen 127.0.0.1:28080 --query-listen 127.0.0.1:28081 \
  --clickhouse-listen 127.0.0.1:28123 >"$work/up.log" 2>&1 &
pids+=($!); wait_for http://127.0.0.1:28080/readyz $!
secret() { cat "$work/data/keys/api-secrets/$1"; }
post() { curl -sf -X POST -H "Authorization: Bearer $(secret "$1")" -H 'Content-Type: application/json' -d "$3" "http://127.0.0.1:28080$2"; }
document='{"kind":"resident_id","number":"11010519491231002X"}'
post identity-service /v1/persons "{\"document\":$document,\"name\":\"张伟\",\"phone\":\"13812345678\"}" >/dev/null
code=$(post identity-service /v1/codes "{\"document\":$document}" | cut -d'"' -f4)
curl -sf -H "Authorization: Bearer $(secret tester)" "http://127.0.0.1:28080/v1/codes/$code" >"$work/answer.json"
"$built/examples/bare_axum" 127.0.0.1:28090 "$work/answer.json" & pids+=($!); wait_for http://127.0.0.1:28090/v1/codes/x $!
"$built/examples/bare_hyper" 127.0.0.1:28091 "$work/answer.json" & pids+=($!); wait_for http://127.0.0.1:28091/x $!
mkdir "$work/nginx"
cat >"$work/nginx.conf" <<NGINX
worker_processes auto; daemon off; pid $work/nginx/pid; error_log $work/nginx.log;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path $work/nginx; proxy_temp_path $work/nginx; fastcgi_temp_path $work/nginx; uwsgi_temp_path $work/nginx; scgi_temp_path $work/nginx;
  server { listen 127.0.0.1:28092; location / { return 200 '$(cat "$work/answer.json")'; } }
}
NGINX
PATH=$PATH:/usr/sbin nginx -p "$work/nginx" -c "$work/nginx.conf" & pids+=($!); wait_for http://127.0.0.1:28092/x $!
redis-server --port 28093 --bind 127.0.0.1 --save '' --appendonly no --dir "$work" >"$work/redis.log" & pids+=($!)
until redis-cli -p 28093 -x set answer <"$work/answer.json" >/dev/null 2>&1; do sleep 0.1; done

http() { # http <port>: requests a second
  wrk -t1 -c$connections "-d${seconds}s" -H "Authorization: Bearer $(secret tester)" "http://127.0.0.1:$1/v1/codes/$code" >"$work/wrk.out"
  if grep -q "Non-2xx" "$work/wrk.out"; then echo "requests were refused:"; cat "$work/wrk.out"; exit 1; fi
  awk '/Requests\/sec/ {print int($2)}' "$work/wrk.out"
}
redis() { # as long as a round, at the rate of the round before
  redis-benchmark -p 28093 -c $connections -n $((${redis_rate:-50000} * seconds)) --csv get answer | awk -F'"' 'NR == 2 {print int($4)}'
}
names=(lookup "bare axum" "bare hyper" "nginx constant" "Redis GET")
for port in 28080 28090 28091 28092; do http $port >/dev/null; done; redis_rate=$(redis) # warm
: >"$work/rounds"
for ((n = 1; n <= rounds; n++)); do
  row="$(http 28080) $(http 28090) $(http 28091) $(http 28092) $(redis)"
  echo "$row" >>"$work/rounds"
  echo "round $n: $row"
done
median() { sort -g | awk '{v[NR] = $1} END {print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
printf '\n%-16s %14s %26s\n' "" "median a second" "lookup to it, of rounds"
for ((k = 0; k < 5; k++)); do
  rate=$(awk -v k=$((k + 1)) '{print $k}' "$work/rounds" | median)
  ratio=$(awk -v k=$((k + 1)) '{print $1 / $k}' "$work/rounds" | median)
  [ $k -gt 0 ] || ours=$rate
  printf '%-16s %14.0f %26.2f\n' "${names[$k]}" "$rate" "$ratio"
done
echo "($(stat -c %s "$work/answer.json") bytes of answer, $connections connections, $(nproc) cores shared with the generator)"

# Batches: a thousand codes a request.
python3 - "$work" "$code" "$(secret tester)" <<'PYTHON'
import base64, json, sys
work, code, secret = sys.argv[1:]
json.dump({"codes": [code] * 1000}, open(f"{work}/batch.json", "w"))
open(f"{work}/batch.codes", "wb").write(base64.urlsafe_b64decode(code + "=") * 1000)
for name, kind, accept in [("json", "application/json", "application/json"), ("codes", "application/vnd.tongxing.codes", "application/vnd.tongxing.answers")]:
    open(f"{work}/{name}.lua", "w").write(f'''
wrk.method = "POST"
local file = io.open("{work}/batch.{name}", "rb")
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "{kind}"
wrk.headers["Accept"] = "{accept}"
wrk.headers["Authorization"] = "Bearer {secret}"
''')
PYTHON
batch() { # batch <form>: codes a second
  wrk -t1 -c8 "-d${seconds}s" -s "$work/$1.lua" http://127.0.0.1:28080/v1/lookups >"$work/wrk.out"
  if grep -q "Non-2xx" "$work/wrk.out"; then echo "batches were refused:"; cat "$work/wrk.out"; exit 1; fi
  awk '/Requests\/sec/ {print int($2 * 1000)}' "$work/wrk.out"
}
for ((n = 1; n <= rounds; n++)); do echo "$(batch json) $(batch codes)"; done >"$work/batches"
echo "batches of 1,000: $(awk '{print $1}' "$work/batches" | median) codes/s as JSON, $(awk '{print $2}' "$work/batches" | median) codes/s compact"

# Latency from the planned time, at half of what lookups reach from clients that never rest and of what they reach from the same generator, with 500 check-ins a second beside: with aggregator
# and engine on the same cores, as the local deployment has them, and with the store away, as a node of a cluster has it. In turns
# with it, nginx's constant takes the lookups instead, from the same generator beside the same check-ins: what the machine does to a
# server of the kind at that load.
reached() { # reached <keys>: lookups a second where the generator is asked for more than there is
  "$built/loadtest" --ingest http://127.0.0.1:28080 --secrets "$1/api-secrets" --lookups 200000 --check-ins 500 --seconds 4 \
    --ingest-only --json "$work/result.json" >"$work/load.out" 2>&1 || { tail -5 "$work/load.out"; exit 1; }
  python3 -c 'import json, sys; print(int(json.load(open(sys.argv[1]))["lookups"]["per_second"]))' "$work/result.json"
}
load() { # load <keys> <lookups a second> [argument...]: p50, p99 and p99.9 of lookups, then of check-ins
  "$built/loadtest" --ingest http://127.0.0.1:28080 --secrets "$1/api-secrets" --lookups "$2" --check-ins 500 --seconds $((seconds * 2)) \
    --ingest-only --json "$work/result.json" "${@:3}" >"$work/load.out" 2>&1 || { tail -5 "$work/load.out"; exit 1; }
  python3 - "$work/result.json" <<'PYTHON'
import json, sys
result = json.load(open(sys.argv[1]))
lookups = result["lookups"]
if set(lookups["statuses"]) != {"200"} or lookups["broken"]:
    sys.exit(f"lookups were refused or broke: {lookups['statuses']}, broken {lookups['broken']}")
print(*(part["latency_from_planned_time_us"][q] / 1000 for part in (lookups, result["check_ins"]) for q in ("p50", "p99", "p999")))
PYTHON
}
half_load() { # half_load <name> <keys>
  half_of "$ours" "what wrk reaches alone" "$@"
  half_of "$(for ((n = 1; n <= rounds; n++)); do reached "$2"; done | median)" "what this generator reaches so" "$@"
}
half_of() { # half_of <lookups a second> <what they are> <name> <keys>
  local half
  half=$(awk -v most="$1" 'BEGIN {print int(most / 2)}')
  for ((n = 1; n <= rounds; n++)); do
    load "$4" "$half" >>"$work/ours"
    load "$4" "$half" --lookups-at http://127.0.0.1:28092 >>"$work/nginx_halves"
  done
  printf '\nat %d/s, half of %s, beside 500 check-ins/s, %s (medians of %d, ms)\n' "$half" "$2" "$3" "$rounds"
  printf '%-16s %8s %8s %8s %16s %8s\n' "" p50 p99 p99.9 "check-ins p50" p99
  for who in ours nginx_halves; do
    column() { awk -v k="$1" '{print $k}' "$work/$who" | median; }
    [ $who = ours ] && name=lookup || name="nginx constant"
    printf '%-16s %8.2f %8.2f %8.2f %16.2f %8.2f\n' "$name" "$(column 1)" "$(column 2)" "$(column 3)" "$(column 4)" "$(column 5)"
    rm "$work/$who"
  done
}
half_load "the store beside" "$work/data/keys"
kill "${pids[0]}"; wait "${pids[0]}" || true
"$built/tongxing" up --data "$work/alone" --ingest-listen 127.0.0.1:28080 --query-listen 127.0.0.1:28081 --clickhouse-url http://127.0.0.1:9 \
  >"$work/up.log" 2>&1 &
pids[0]=$!; wait_for http://127.0.0.1:28080/readyz "${pids[0]}"
half_load "the store elsewhere" "$work/alone/keys"
