#!/usr/bin/env bash
# Runs real Apache Kafka brokers (KRaft, no installation) on this machine's loopback, for tests and for trying things out.
#
# usage:
#   scripts/kafka.sh fetch                      bring the broker's archives into the cache folder (once); prints that folder
#   scripts/kafka.sh start <folder> [1|3]       start a cluster whose data, logs, pids and ports are in <folder>, and wait
#                                               until every broker answers and lists all of them; prints bootstrap=host:port,…
#                                               a folder that has data starts again with the same brokers on the same ports
#   scripts/kafka.sh start <folder> [1|3] secure
#                                               the same, and nobody gets in without protection: one listener demands TLS (brokers
#                                               use it among themselves), the other TLS and SCRAM-SHA-512. Prints, a line each,
#                                               tls_bootstrap, scram_bootstrap, ca_file, scram_user and scram_password_file
#   scripts/kafka.sh start-one <folder> <n>     start broker <n> (from 1) again and wait until it answers; prints the same line
#   scripts/kafka.sh kill <folder> <n>          end broker <n> at once (SIGKILL)
#   scripts/kafka.sh pause <folder> <n>         freeze broker <n> (SIGSTOP)
#   scripts/kafka.sh resume <folder> <n>        let it go on (SIGCONT)
#   scripts/kafka.sh stop <folder>              end all brokers (SIGTERM, SIGKILL after 10 s); nothing running is fine; data stay
#   scripts/kafka.sh stop-now <folder>          the same at once (SIGKILL)
#   scripts/kafka.sh help
#
# Only those lines go to stdout. Kafka's own tools run from the same archives, for example
#   java -cp "$(scripts/kafka.sh fetch)/*" org.apache.kafka.tools.TopicCommand --bootstrap-server … --list
# The cache folder is $TONGXING_CACHE, else $XDG_CACHE_HOME/tongxing, else ~/.cache/tongxing.
set -euo pipefail
pom=$(cd "$(dirname "$0")" && pwd)/kafka/pom.xml
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$pom")
cache=${TONGXING_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tongxing}/kafka
jars=$cache/$version
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
wait_seconds=120
scram_user=tongxing
# A small heap, and the quick compiler only: a test's broker lives for seconds or minutes, beside others on few cores.
# One that is measured wants Java's best compiler: TONGXING_KAFKA_JVM gives options in place of these.
read -r -a jvm <<<"${TONGXING_KAFKA_JVM:--Xms128m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData}"

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }

need_java() {
  local major install="Debian: apt-get install openjdk-17-jre-headless"
  command -v "$java" >/dev/null || fail "Kafka $version needs Java 17 or newer, and $java is missing. $install"
  major=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
  [ "${major:-0}" -ge 17 ] || fail "Kafka $version needs Java 17 or newer, and $java is version ${major:-unknown}. $install"
}

fetch() {
  [ -d "$jars" ] && return
  need_java
  command -v mvn >/dev/null || fail "mvn is missing; it brings Kafka $version, once. Debian: apt-get install maven"
  mkdir -p "$cache"
  incoming=$(mktemp -d "$cache/incoming.XXXXXX")
  trap 'rm -rf "$incoming"' EXIT
  say "bringing Apache Kafka $version from Maven Central (44 MB, once) …"
  # -C: an archive that does not match its checksum is an error. Maven ends with colour signs even where nobody asks for colour.
  mvn -q -B -C -f "$pom" dependency:copy-dependencies -DoutputDirectory="$incoming" -DincludeScope=runtime </dev/null 2>&1 |
    sed $'s/\e\\[[0-9;]*m//g' >&2 ||
    fail "Maven could not bring Kafka $version; check the network and Maven's settings, then run again"
  chmod 755 "$incoming"
  # Where mv fails, another run that was quicker has put the same archives there.
  if mv -T "$incoming" "$jars" 2>/dev/null; then
    (train) || say "no archive of Kafka's classes was made; brokers start all the same, in twice the time"
  fi
  rm -rf "$incoming"
  trap - EXIT
  [ -d "$jars" ] || fail "cannot write $jars"
}

# Runs one broker to write down the classes that it loads. With them in Java's own form the next brokers start in half the time;
# another version of Java passes over them.
train() {
  folder=$(mktemp -d "$cache/incoming.XXXXXX")
  trap 'stop; rm -rf "$folder"' EXIT
  prepare 1
  jvm+=("-XX:ArchiveClassesAtExit=$folder/broker.jsa")
  launch 1
  await 1 1
  signal TERM 1
  for _ in $(seq "$wait_seconds"); do ! ended 1 || break; sleep 1; done
  mv "$folder/broker.jsa" "$jars/broker.jsa"
}

# Prints the pid of broker n while it runs. The process must have this broker's properties file as an argument: a pid file that
# outlived its broker never names somebody else's process.
pid_of() {
  local pid
  pid=$(cat "$folder/broker-$1/pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  grep -qzxF -e "$folder/broker-$1/server.properties" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

# Twice, since a process shows no arguments for an instant while it becomes java.
ended() { ! pid_of "$1" >/dev/null && sleep 0.1 && ! pid_of "$1" >/dev/null; }

# Prints a port that nobody listens on and that no other folder has taken. The mark of a taken port is a link to its folder, so a
# stopped cluster keeps its ports while its folder exists. The range is below the one for outgoing connections.
take_port() {
  local port
  for _ in {1..200}; do
    port=$((20000 + RANDOM % 12000))
    (: 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
    ln -sT "$folder" "$cache/ports/$port" 2>/dev/null && echo "$port" && return
  done
  return 1
}

# An authority, a key for the brokers signed by it, and a SCRAM user's password, once for a folder.
make_secrets() {
  local dir=$folder/secrets
  [ -f "$dir/ready" ] && return
  command -v openssl >/dev/null || fail "openssl is missing; it makes the certificates. Debian: apt-get install openssl"
  (
    umask 077
    mkdir -p "$dir" && cd "$dir"
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=Tongxing trial authority" -keyout ca.key -out ca.pem \
      -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
    openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout broker.key -out broker.csr
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' >broker.extensions
    openssl x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile broker.extensions -out broker.crt
    # Java wants the key first, in PKCS #8, which is how openssl writes it.
    cat broker.key broker.crt ca.pem >broker.pem
    openssl rand -hex 16 >scram-password
    touch ready
  ) 2>"$folder/openssl.log" || fail "openssl failed: $(tail -n 5 "$folder/openssl.log")"
}

# Writes what a broker needs and formats its storage, as far as the folder does not have it. Sets brokers, bootstrap and, for a
# secure cluster, scram_bootstrap.
prepare() { # prepare [brokers] [secure]
  local n port controller scram voters replicas in_sync
  local -a formats=() format=()
  mkdir -p "$folder" "$cache/ports"
  if [ ! -f "$folder/ports" ]; then
    # Another start may be removing the same ones, and what stays is tried again by the next.
    find "$cache/ports" -xtype l -delete 2>/dev/null || true
    # A uuid as Kafka writes it, without the two signs that base64 for addresses has: a leading dash reads as an option.
    head -c 16 /dev/urandom | base64 | tr '+/' 'xy' | tr -d '=' >"$folder/cluster-id"
    for n in $(seq "${1:-1}"); do
      port=$(take_port) && controller=$(take_port) || fail "no free port from 20000 to 31999, or $cache/ports is not writable"
      scram=
      [ -z "${2:-}" ] || scram=$(take_port) || fail "no free port from 20000 to 31999"
      echo "$n $port $controller${scram:+ $scram}"
    done >"$folder/ports.new"
    mv "$folder/ports.new" "$folder/ports"
  fi
  brokers=$(wc -l <"$folder/ports")
  [ "${1:-$brokers}" -eq "$brokers" ] || fail "$folder is a cluster of $brokers; it cannot start with $1"
  scram_bootstrap=$(awk 'NF > 3 {printf "%s127.0.0.1:%s", (NR > 1 ? "," : ""), $4}' "$folder/ports")
  [ -z "${2:-}" ] || [ -n "$scram_bootstrap" ] || fail "$folder is a cluster without protection; it cannot start with it"
  [ -z "$scram_bootstrap" ] || make_secrets
  bootstrap=$(awk '{printf "%s127.0.0.1:%s", (NR > 1 ? "," : ""), $2}' "$folder/ports")
  voters=$(awk '{printf "%s%s@127.0.0.1:%s", (NR > 1 ? "," : ""), $1, $3}' "$folder/ports")
  replicas=$brokers
  in_sync=$((brokers == 3 ? 2 : 1))

  # Warnings go to kafka.log; the one line that says a broker is ready goes to its output.
  cat >"$folder/log4j2.properties" <<'PROPERTIES'
appender.file.type = File
appender.file.name = file
appender.file.fileName = ${sys:tongxing.broker}/kafka.log
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %m (%c)%n
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
logger.ready.name = kafka.server.KafkaRaftServer
logger.ready.level = info
logger.ready.appenderRef.out.ref = out
PROPERTIES

  while read -r n port controller scram; do
    mkdir -p "$folder/broker-$n"
    # The cleaner's buffer is 128 MiB by default, half of the heap. A broker that hands over before it ends needs a controller, and
    # when a cluster of three stops the controllers stop too, so only a single broker does. Any other broker that ends without a
    # word is missing, and may not register again, until its session is over: 9 s by default.
    cat >"$folder/broker-$n/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$n
controller.quorum.voters=$voters
$(listeners)
controller.listener.names=CONTROLLER
log.dirs=$folder/broker-$n/data
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=$replicas
min.insync.replicas=$in_sync
unclean.leader.election.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=$replicas
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
controlled.shutdown.enable=$([ "$brokers" -eq 1 ] && echo true || echo false)
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
PROPERTIES
    [ -f "$folder/broker-$n/data/meta.properties" ] && continue
    java_for "$n"
    format=()
    [ -z "$scram" ] ||
      format=(--add-scram "SCRAM-SHA-512=[name=$scram_user,password=$(cat "$folder/secrets/scram-password")]")
    "${command[@]}" kafka.tools.StorageTool format --cluster-id "$(cat "$folder/cluster-id")" "${format[@]}" \
      --config "$folder/broker-$n/server.properties" >"$folder/broker-$n/out" 2>&1 </dev/null &
    formats+=($!)
  done <"$folder/ports"
  for n in "${formats[@]}"; do
    wait "$n" || fail "formatting failed: $(tail -n 5 "$folder"/broker-*/out)"
  done
}

# Prints the listeners of the broker that prepare is at. Controllers speak among themselves on loopback in the clear; they answer
# no client of the brokers.
listeners() {
  local controllers=CONTROLLER://127.0.0.1:$controller
  if [ -z "$scram" ]; then
    cat <<PROPERTIES
listeners=PLAINTEXT://127.0.0.1:$port,$controllers
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
PROPERTIES
    return
  fi
  cat <<PROPERTIES
listeners=TLS://127.0.0.1:$port,SCRAM://127.0.0.1:$scram,$controllers
advertised.listeners=TLS://127.0.0.1:$port,SCRAM://127.0.0.1:$scram
listener.security.protocol.map=TLS:SSL,SCRAM:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=TLS
ssl.keystore.type=PEM
ssl.keystore.location=$folder/secrets/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=$folder/secrets/ca.pem
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
PROPERTIES
}

# Sets command to java, for something that broker n runs, up to the class.
java_for() {
  command=("$java" "${jvm[@]}" "-Dlog4j2.configurationFile=$folder/log4j2.properties" "-Dtongxing.broker=$folder/broker-$1")
  [ ! -f "$jars/broker.jsa" ] || command+=("-XX:SharedArchiveFile=$jars/broker.jsa")
  command+=(-cp "$jars/*")
}

# Starts broker n in a session of its own. It writes its own pid before it becomes java, so no broker runs without a pid file.
launch() {
  local dir=$folder/broker-$1
  pid_of "$1" >/dev/null && return
  rm -f "$dir/pid"
  java_for "$1"
  setsid bash -c 'cd "$0" && echo $$ >pid && exec "$@"' "$dir" "${command[@]}" kafka.Kafka "$dir/server.properties" \
    </dev/null >"$dir/out" 2>&1 &
  while [ ! -s "$dir/pid" ] && kill -0 $! 2>/dev/null; do sleep 0.02; done
}

# Asks the broker on a port for metadata (request 3, version 1, no client name, no topics); prints how many brokers it lists.
listed() {
  local question='\0\0\0\016\0\003\0\001\0\0\0\001\377\377\0\0\0\0'
  if [ -n "$scram_bootstrap" ]; then
    # The answer must come while the question's end is still open.
    { printf "$question"; sleep 1; } |
      timeout 5 openssl s_client -quiet -no_ign_eof -verify_return_error -CAfile "$folder/secrets/ca.pem" \
        -connect "127.0.0.1:$1" 2>/dev/null | head -c 12 | od -An -td4 -j8 --endian=big || true
    return
  fi
  {
    printf "$question" >&3
    timeout 5 head -c 12 <&3 | od -An -td4 -j8 --endian=big
  } 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1"
}

# Prints where the cluster is, and how to get in.
report() {
  if [ -z "$scram_bootstrap" ]; then
    echo "bootstrap=$bootstrap"
    return
  fi
  printf '%s\n' "tls_bootstrap=$bootstrap" "scram_bootstrap=$scram_bootstrap" "ca_file=$folder/secrets/ca.pem" \
    "scram_user=$scram_user" "scram_password_file=$folder/secrets/scram-password"
}

await() { # await <brokers to list> <n>…
  local want=$1 deadline=$((SECONDS + wait_seconds)) n port count
  shift
  for n in "$@"; do
    port=$(awk -v n="$n" '$1 == n {print $2}' "$folder/ports")
    until grep -q 'Kafka Server started' "$folder/broker-$n/out" && count=$(listed "$port") && [ "${count:-0}" -ge "$want" ]; do
      if ended "$n" || [ "$SECONDS" -ge "$deadline" ]; then
        tail -n 20 "$folder/broker-$n/out" "$folder/broker-$n/kafka.log" >&2 || true
        fail "broker $n did not come up within $wait_seconds s; its last lines are above"
      fi
      sleep 0.1
    done
  done
}

start() { # start [brokers] [secure]
  local n
  fetch
  need_java
  prepare "$@"
  # A start that fails or is interrupted leaves nothing running.
  trap stop EXIT
  for n in $(seq "$brokers"); do launch "$n"; done
  await "$brokers" $(seq "$brokers")
  trap - EXIT
  report
}

start_one() { # start_one <n>
  fetch
  need_java
  prepare
  launch "$1"
  await 1 "$1"
  report
}

signal() { # signal <signal> <n>
  local pid
  pid=$(pid_of "$2") || fail "broker $2 of $folder does not run"
  kill "-$1" "$pid"
  [ "$1" != KILL ] || until ended "$2"; do :; done
}

stop() { # stop [signal]
  local deadline=$((SECONDS + 10)) signal=${1:-TERM} file n pid running
  while :; do
    running=0
    for file in "$folder"/broker-*/pid; do
      n=${file%/pid} n=${n##*/broker-}
      pid=$(pid_of "$n") || continue
      running=1
      [ -z "$signal" ] || kill "-$signal" "$pid" 2>/dev/null || true
      # A frozen broker hears SIGTERM once it goes on.
      [ "$signal" != TERM ] || kill -CONT "$pid" 2>/dev/null || true
    done
    [ "$running" -eq 1 ] || break
    signal=
    [ "$SECONDS" -lt "$deadline" ] || signal=KILL
    sleep 0.1
  done
}

action=${1:-help}
case $action in
  help | -h | --help) usage; exit ;;
  fetch) fetch; echo "$jars"; exit ;;
  start | start-one | kill | pause | resume | stop | stop-now) ;;
  *) usage >&2; fail "there is no command $action" ;;
esac
[ -n "${2:-}" ] || fail "$action needs a folder; see scripts/kafka.sh help"
folder=$(realpath -m -- "$2")
case $action in
  start)
    case ${3:-} in '' | 1 | 3) ;; *) fail "a cluster has 1 or 3 brokers" ;; esac
    case ${4:-} in '' | secure) ;; *) fail "a cluster is secure or nothing, not $4" ;; esac
    start ${3:+"$3"} ${4:+"$4"}
    ;;
  stop) stop ;;
  stop-now) stop KILL ;;
  *)
    n=${3:-}
    [[ $n =~ ^[0-9]+$ ]] && grep -q "^$n " "$folder/ports" 2>/dev/null ||
      fail "there is no broker ${n:-(number missing)} in $folder"
    case $action in
      start-one) start_one "$n" ;;
      kill) signal KILL "$n" ;;
      pause) signal STOP "$n" ;;
      resume) signal CONT "$n" ;;
    esac
    ;;
esac
