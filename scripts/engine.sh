#!/usr/bin/env bash
# Brings libchdb.so from its npm package into a cache folder outside the tree, checked against its integrity hash.
# usage: engine.sh <cache folder> <version>
set -euo pipefail
cache=$1
version=$2
package=@chdb/lib-linux-x64-gnu
# The package's sha512 as its registry publishes it (npm view $package@$version dist.integrity).
integrity=XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==
target=$cache/engine/$version
[ -f "$target/libchdb.so" ] && exit 0
need_kib=$((1024 * 1024))
mkdir -p "$target"
free_kib=$(df -Pk "$target" | awk 'NR==2 {print $4}')
if [ "$free_kib" -lt "$need_kib" ]; then
  echo "the engine needs 1 GiB free in $target; there are $((free_kib / 1024)) MiB"
  exit 1
fi
work=$(mktemp -d "$target/incoming.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "bringing the ClickHouse engine $version (178 MB, once) …"
if ! (cd "$work" && npm pack --silent --loglevel=error "$package@$version" >name); then
  echo "npm could not bring $package@$version; check the network and npm's registry setting, then run again"
  exit 1
fi
archive=$work/$(tail -n 1 "$work/name")
found=$(openssl dgst -sha512 -binary "$archive" | base64 -w 0)
if [ "$found" != "$integrity" ]; then
  echo "$package@$version does not match its integrity hash; nothing was installed"
  echo "  expected $integrity"
  echo "  found    $found"
  exit 1
fi
tar -xzf "$archive" -C "$work" package/libchdb.so
mv "$work/package/libchdb.so" "$target/libchdb.so"
echo "the engine is in $target"
