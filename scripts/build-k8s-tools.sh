#!/usr/bin/env bash
# Builds Kubernetes and what stands around it, from their Go modules (tests/k8s, tests/coredns, tests/kind), into a folder:
# what is there already and whose module did not change is left alone. Usage: build-k8s-tools.sh FOLDER [cluster|conformance|kind]...
# Cold, on two cores: cluster 10 min, coredns 1 min, conformance 3 min, kind 1 min; from a warm Go cache 1 to 2 min in all.
set -euo pipefail
cd "$(dirname "$0")/../tests"
out=$1
shift
mkdir -p "$out"
command -v go >/dev/null || { echo "$0: Go is missing (tests/k8s/go.mod says which version)" >&2; exit 1; }

version=$(sed -nE 's|^\s*k8s.io/kubernetes (v[0-9.]+).*|\1|p' k8s/go.mod)
IFS=. read -r major minor _ <<<"${version#v}"
# The components compare their versions: without these flags they all call themselves v0.0.0.
package=k8s.io/component-base/version
client=k8s.io/client-go/pkg/version
flags="-s -w"
for stamped in $package $client; do
  flags+=" -X $stamped.gitVersion=$version -X $stamped.gitMajor=$major -X $stamped.gitMinor=$minor -X $stamped.gitTreeState=clean"
done
# One set of flags and no cgo for everything: another set would compile the whole tree again.
export CGO_ENABLED=0 GOFLAGS=-trimpath GOTOOLCHAIN=local

# build MODULE STAMP-NAME COMMAND...: the command runs in the module when its go.mod or sources changed.
build() {
  local module=$1 name=$2 stamp
  shift 2
  stamp="$(cd "$module" && cat go.mod go.sum $(find . -name '*.go' | sort) | sha256sum) $(go version) $*"
  [ "$(cat "$out/.$name" 2>/dev/null)" = "$stamp" ] && return
  echo "building $name"
  local started=$SECONDS
  (cd "$module" && "$@")
  printf '%s' "$stamp" >"$out/.$name"
  echo "built $name in $((SECONDS - started)) s"
}

for group in "$@"; do
  case $group in
    cluster)
      commands=(kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet)
      build k8s cluster go build -ldflags "$flags" -o "$out/" ./etcd "${commands[@]/#/k8s.io/kubernetes/cmd/}" k8s.io/kubernetes/test/images/agnhost
      build coredns coredns go build -ldflags "-s -w" -o "$out/coredns" .
      ;;
    conformance)
      build k8s conformance go test -c -vet=off -ldflags "$flags" -o "$out/network-e2e.test" ./network-e2e
      build k8s ginkgo go build -ldflags "-s -w" -o "$out/" github.com/onsi/ginkgo/v2/ginkgo
      ;;
    kind)
      build k8s kubeadm go build -ldflags "$flags" -o "$out/" k8s.io/kubernetes/cmd/kubeadm
      build kind kind go build -ldflags "-s -w" -o "$out/" sigs.k8s.io/kind
      ;;
    *) echo "$0: no group $group" >&2; exit 2 ;;
  esac
done
