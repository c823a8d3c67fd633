#!/usr/bin/env bash
# Every test. TONGXING_LONG=1 gives the full counts; TONGXING_SEED fixes the seed, which is printed either way.
set -euo pipefail
cd "$(dirname "$0")/.."
export TONGXING_SEED=${TONGXING_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
echo "TONGXING_SEED=$TONGXING_SEED"
for tool in python3 curl; do
  command -v $tool >/dev/null || { echo "tests need $tool: apt-get install python3 python3-venv curl"; exit 1; }
done
# The broker that tests run against; says what to install where Java or Maven is missing.
scripts/kafka.sh fetch >/dev/null
cargo test --workspace --locked
(cd dashboards/console && npm test --silent)
cargo build --locked --package launcher
scripts/console-test.sh
echo "all tests passed (TONGXING_SEED=$TONGXING_SEED)"
