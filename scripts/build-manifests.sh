#!/usr/bin/env bash
# manifests/slash32.yaml, the one file to apply: the resources of manifests/base, joined as its kustomization.yaml orders them.
#   build-manifests.sh           writes it
#   build-manifests.sh --check   fails where it is not up to date, or where a manifest names another version than Cargo.toml
set -euo pipefail
cd "$(dirname "$0")/.."
one=manifests/slash32.yaml

join() {
  echo "# Slash32: kubectl apply -f slash32.yaml. Made from manifests/base by 'make manifests'."
  local resource
  for resource in $(sed -n 's/^  - //p' manifests/base/kustomization.yaml); do
    echo '---'
    cat "manifests/base/$resource"
  done
}

case "${1:-}" in
  '') join >"$one" ;;
  --check)
    join | diff -u "$one" - >&2 || { echo "$one is not up to date: run 'make manifests'" >&2; exit 1; }
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
    if grep -rnE 'image: slash32/' manifests --include='*.yaml' | grep -vF "image: slash32/slash32-agent:$version" >&2; then
      echo "these images are not of version $version (Cargo.toml)" >&2
      exit 1
    fi
    ;;
  *) echo "usage: $0 [--check]" >&2; exit 2 ;;
esac
