#!/usr/bin/env bash
# Tries Slash32 in kind: a cluster without a network; Slash32, built from this checkout, applied; pods tested; all removed again.
# Needs docker, kind and kubectl. Prints each step; the exit code is 0 if all passed.
#
#   try.sh         the whole round
#   try.sh up      the same, but Slash32 and the cluster stay
#   try.sh down    removes them
#
#   NODE_IMAGE     another node image than kind's own
#   BINARIES       a folder with slash32, slash32-ipam and slash32-agent: nothing is compiled then
#   INTERNET_URL   what a pod fetches from the internet (http://example.com/)
set -euo pipefail
cd "$(dirname "$0")"
mode=${1:-all}
cluster=slash32
outside=slash32-outside # a container beside the nodes that is no part of the cluster
internet_url=${INTERNET_URL:-http://example.com/}
image=$(sed -n 's/^ *image: //p' ../base/daemonset.yaml | head -n 1)
agnhost=$(sed -n 's/^ *image: //p' pods.yaml | head -n 1)
passed=0 failed=0 skipped=0 broken=
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# step NAME FUNCTION: runs it; tells its name, the last line that it printed, and seconds.
step() {
  local name=$1 started=$SECONDS output status
  if [ -n "$broken" ]; then
    printf '  skip %s (after: %s)\n' "$name" "$broken"
    skipped=$((skipped + 1))
    return
  fi
  set +e
  output=$(set -e && "$2" 2>&1)
  status=$?
  set -e
  if [ "$status" = 0 ]; then
    printf '  ok   %-52s %s (%s s)\n' "$name" "${output##*$'\n'}" $((SECONDS - started))
    passed=$((passed + 1))
  else
    printf '  FAIL %s (%s s)\n%s\n' "$name" $((SECONDS - started)) "$(sed 's/^/       /' <<<"$output")"
    failed=$((failed + 1))
  fi
}

# needed NAME FUNCTION: a step without which the later ones mean nothing.
needed() {
  local before=$failed
  step "$@"
  [ "$failed" = "$before" ] || broken=$1
}

k() { kubectl --context "kind-$cluster" "$@"; }
pod_ip() { k -n slash32-try get pod "$1" -o jsonpath='{.status.podIP}'; }
node_ip() { k get node "$1" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}'; }
outside_ip() { docker inspect --format '{{.NetworkSettings.Networks.kind.IPAddress}}' $outside; }
nodes() { kind get nodes --name $cluster; }
curl_args=(curl --silent --show-error --fail --max-time 10)
# What a pod, or the container outside, is told by an URL.
pod_asks() { k -n slash32-try exec "$1" -- "${curl_args[@]}" "$2"; }
outside_asks() { docker exec $outside "${curl_args[@]}" "$1"; }

# saw ADDRESS:PORT WANTED: a server's answer to /clientip names this address.
saw() {
  echo "server saw ${1%:*}"
  [ "${1%:*}" = "$2" ] || { echo "it should have seen $2"; return 1; }
}

cluster_up() {
  kind create cluster --config cluster.yaml ${NODE_IMAGE:+--image "$NODE_IMAGE"}
  k get nodes --no-headers -o custom-columns=N:.metadata.name,V:.status.nodeInfo.kubeletVersion | sort | xargs
}

not_ready() {
  k wait --for=condition=Ready=false nodes --all --timeout=60s
  local why
  why=$(k get nodes -o jsonpath='{range .items[*]}{.status.conditions[?(@.type=="Ready")].message}{"\n"}{end}')
  echo "$why"
  [ "$(grep -c 'cni plugin not initialized' <<<"$why")" = "$(nodes | wc -l)" ]
  echo 'cni plugin not initialized'
}

image_built() {
  if [ -n "${BINARIES:-}" ]; then
    ../../scripts/build-image.sh "$BINARIES" "$image"
  else
    docker build --tag "$image" ../..
  fi
  echo "$image"
}

image_loaded() {
  docker save --output "$work/image.tar" "$image"
  kind load image-archive --name $cluster "$work/image.tar"
  echo "$(du -m "$work/image.tar" | cut -f 1) MB"
}

# What helps where Slash32 does not come up; always a failure.
tell_why() {
  k -n kube-system get pods -o wide
  k -n kube-system logs --selector=app.kubernetes.io/name=slash32-agent --prefix --tail=10
  return 1
}

applied() {
  k apply -k ../overlays/kind
  k -n kube-system rollout status daemonset/slash32-agent --timeout=120s || tell_why
}

ready() {
  k wait --for=condition=Ready=false nodes --all --timeout=60s
  local why
  why=$(k get nodes -o jsonpath='{range .items[*]}{.status.conditions[?(@.type=="Ready")].message}{"\n"}{end}')
  echo "$why"
  [ "$(grep -c 'cni plugin not initialized' <<<"$why")" = "$(nodes | wc -l)" ]
  echo 'cni plugin not initialized'
}

images() {
  docker image inspect "$agnhost" >/dev/null 2>&1 || docker pull "$agnhost"
  load "$agnhost"
  echo "$agnhost"
}

slash32_applied() {
  bash "$STANDIN"
}

ready() {
  k wait --for=condition=Ready nodes --all --timeout=60s || tell_why
  k wait --for=condition=NetworkUnavailable=false nodes --all --timeout=60s
  echo "$(nodes | wc -l) nodes, none says NetworkUnavailable"
}

pods_up() {
  k apply -f pods.yaml
  k -n slash32-try wait --for=condition=Ready pods --all --timeout=300s || { k -n slash32-try get events; return 1; }
  k -n kube-system rollout status deployment/coredns --timeout=120s
  docker run --detach --rm --name $outside --network kind "$agnhost" netexec --http-port=8080
  k -n slash32-try get pods --no-headers -o custom-columns=N:.metadata.name,I:.status.podIP | xargs
}

same_node() { saw "$(pod_asks client "http://$(pod_ip neighbour):8080/clientip")" "$(pod_ip client)"; }
across() { saw "$(pod_asks client "http://$(pod_ip remote):8080/clientip")" "$(pod_ip client)"; }
back() { saw "$(pod_asks remote "http://$(pod_ip client):8080/clientip")" "$(pod_ip remote)"; }
node_to_pod() {
  saw "$(docker exec $cluster-control-plane "${curl_args[@]}" "http://$(pod_ip remote):8080/clientip")" "$(node_ip $cluster-control-plane)"
}
hidden() { saw "$(pod_asks client "http://$(outside_ip):8080/clientip")" "$(node_ip $cluster-worker)"; }
internet() {
  pod_asks client "$internet_url" >/dev/null
  echo "$internet_url"
}
cluster_ip() { pod_asks client "http://$(k -n slash32-try get service remote -o jsonpath='{.spec.clusterIP}')/hostname"; }
dns() { pod_asks client http://remote.slash32-try.svc.cluster.local/hostname; }
host_port_outside() { saw "$(outside_asks "http://$(node_ip $cluster-worker):18080/clientip")" "$(outside_ip)"; }
host_port_pod() { saw "$(pod_asks remote "http://$(node_ip $cluster-worker):18080/clientip")" "$(pod_ip remote)"; }
host_port_node() { docker exec $cluster-worker "${curl_args[@]}" http://127.0.0.1:18080/hostname; }

# As docs/install.md says; every pod goes first.
uninstalled() {
  k delete namespace slash32-try --timeout=60s
  k -n kube-system delete daemonset slash32-agent --cascade=foreground --timeout=60s
  k apply -f ../uninstall.yaml
  k drain $(nodes) --ignore-daemonsets --delete-emptydir-data --timeout=60s
  k -n kube-system rollout status daemonset/slash32-uninstall --timeout=60s
  k delete --ignore-not-found -f ../uninstall.yaml -f ../slash32.yaml --timeout=60s
}

nothing_left() {
  local node found=
  for node in $(nodes); do
    found+=$(docker exec "$node" sh -c 'ip route show proto 32; ip -6 route show proto 32; ip -o link | grep -E ": [sb]32"; nft list tables | grep slash32
      ls -d /etc/cni/net.d/*slash32* /opt/cni/bin/slash32* /run/slash32 2>/dev/null; true' | sed "s/^/$node: /")
  done
  echo "no route, link, rule or file of Slash32 on a node"
  [ -z "$found" ] || { echo "$found"; return 1; }
}

down() {
  docker rm --force $outside >/dev/null 2>&1 || true
  kind delete cluster --name $cluster
  echo "no node is left"
}

up() {
  echo "Slash32 in kind"
  needed "cluster up" cluster_up
  step "every node NotReady: no network yet" not_ready
  needed "Slash32's image built" image_built
  needed "image on every node" image_loaded
  needed "Slash32 applied" applied
  needed "every node Ready" ready
  needed "pods start" pods_up
  step "pod to pod on one node" same_node
  step "pod to pod across nodes" across
  step "pod to pod across nodes, the other way" back
  step "node to pod on another node" node_to_pod
  step "pod to a server outside: it sees the node" hidden
  step "pod to internet" internet
  step "pod to ClusterIP" cluster_ip
  step "pod to Service by DNS name" dns
  step "host port from outside: it sees the client" host_port_outside
  step "host port from a pod on another node" host_port_pod
  step "host port from its own node, 127.0.0.1" host_port_node
}

case $mode in
  all)
    up
    needed "Slash32 uninstalled" uninstalled
    step "nothing of it is left on any node" nothing_left
    broken=
    step "cluster down" down
    ;;
  up) up ;;
  down) step "cluster down" down ;;
  *) sed -n '2,/^set/s/^# \?//p' "${0##*/}" >&2 && exit 2 ;;
esac
echo "$SECONDS s in all"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$skipped" = 0 ]
