#!/usr/bin/env bash
# Checks what building and testing need, and says exactly what to install.
set -u
missing=0
need() { # need <command> <what to do>
  command -v "$1" >/dev/null 2>&1 && return
  printf 'missing: %-8s %s\n' "$1" "$2"
  missing=1
}
need cargo "install Rust with rustup (rustup.rs); rust-toolchain.toml names the version"
need cc "Debian: apt-get install gcc libc6-dev"
need make "Debian: apt-get install make"
need pkg-config "Debian: apt-get install pkg-config"
if command -v pkg-config >/dev/null 2>&1 && ! pkg-config --exists openssl; then
  echo "missing: OpenSSL's headers, which the Kafka client is built with. Debian: apt-get install libssl-dev"
  missing=1
fi
need node "install Node.js 20.19 or newer with npm (Debian: apt-get install nodejs npm, or nvm)"
need npm "install Node.js 20.19 or newer with npm"
need openssl "Debian: apt-get install openssl"
need curl "Debian: apt-get install curl"
need tar "Debian: apt-get install tar"
if command -v node >/dev/null 2>&1; then
  node -e 'const [a,b]=process.versions.node.split(".").map(Number); process.exit(a>20||(a===20&&b>=19)?0:1)' || {
    echo "node is $(node --version); the console needs 20.19 or newer"
    missing=1
  }
fi
if [ "$(uname -s)-$(uname -m)" != "Linux-x86_64" ]; then
  echo "this is $(uname -s) on $(uname -m); the embedded engine comes for Linux on x86_64"
  missing=1
fi
if [ "$missing" -ne 0 ]; then
  echo "install what is missing, then run the same command again"
  exit 1
fi
