#!/usr/bin/env bash
# Builds cnitool and libcni-check into a folder, when they are not there or their sources changed.
set -euo pipefail
cd "$(dirname "$0")/../tests/go"
out=$1
command -v go >/dev/null || exit 0
mkdir -p "$out"
stamp="$(cat go.mod go.sum libcni-check/*.go | sha256sum) $(go version)"
if [ -x "$out/cnitool" ] && [ -x "$out/libcni-check" ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi
echo "building cnitool and libcni-check"
CGO_ENABLED=0 go build -o "$out/" github.com/containernetworking/cni/cnitool ./libcni-check
echo "$stamp" >"$out/stamp"
