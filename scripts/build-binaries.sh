#!/usr/bin/env bash
# The three static binaries for an architecture as Docker spells it, compiled on any other: clang for ring's C, Rust's own linker
# and musl. Called by the Dockerfile; 'make build' is for this machine alone. Usage: build-binaries.sh amd64|arm64 FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  amd64) target=x86_64-unknown-linux-musl ;;
  arm64) target=aarch64-unknown-linux-musl ;;
  *) echo "$0: architecture ${1:-(none)}: amd64 and arm64 are supported" >&2; exit 2 ;;
esac
folder=${2:?"usage: $0 amd64|arm64 FOLDER"}
rustup target add "$target"
variable=${target//-/_}
export "CC_$variable=clang" "AR_$variable=ar" "CFLAGS_$variable=--target=${target/unknown-/}"
export "CARGO_TARGET_${variable^^}_LINKER=rust-lld"
export "CARGO_TARGET_${variable^^}_RUSTFLAGS=-Clinker-flavor=ld.lld -Clink-self-contained=yes"
cargo build --locked --release --target "$target" -p cni-plugin -p ipam -p node-agent
mkdir -p "$folder"
cp "${CARGO_TARGET_DIR:-target}/$target/release/"{slash32,slash32-ipam,slash32-agent} "$folder/"
