#!/usr/bin/env bash
# The image of slash32-agent from binaries that are built already. Needs docker. Usage: build-image.sh FOLDER [NAME:TAG]
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:?"usage: $0 FOLDER [NAME:TAG]"}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$repository/Cargo.toml" | head -n 1)
image=${2:-slash32/slash32-agent:$version}
# Docker takes the whole folder; cargo's holds much besides.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$folder"/{slash32,slash32-ipam,slash32-agent} "$context/"
docker build --tag "$image" --target prebuilt --file "$repository/Dockerfile" "$context"
