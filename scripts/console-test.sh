#!/usr/bin/env bash
# The console in real Chromium, against a running demonstration of its own.
set -euo pipefail
cd "$(dirname "$0")/../dashboards/console"
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -z "$chromium" ]; then
  echo "the console's test needs Chromium: apt-get install chromium (or set CHROMIUM)"
  exit 1
fi
target=${CARGO_TARGET_DIR:-../../target}
CHROMIUM=$chromium TONGXING_BINARY=${TONGXING_BINARY:-$target/debug/tongxing} npx vitest run e2e
