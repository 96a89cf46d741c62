#!/usr/bin/env bash
# The first process of namespaces of its own (by e2e-kind.sh), with which all that it starts ends: a docker daemon, an internet
# of one server and its resolver, the images that a user would pull; then manifests/kind/try.sh, as a user runs it.
# Usage: box.sh CACHE [arguments of try.sh]. Needs SLASH32_K8S_TOOLS and SLASH32_BIN_DIR.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$1
shift
internet=198.51.100.10
logs=/run/slash32-kind
export PATH="$SLASH32_K8S_TOOLS:$PATH"
export DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=$logs/docker KUBECONFIG=$logs/kubeconfig

say() { printf '%s, %s s\n' "$1" "$((SECONDS - since))"; }

# until_true WHAT COMMAND...: bounded wait.
until_true() {
  local what=$1 _
  shift
  for _ in $(seq 300); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.1
  done
  echo "$what: not within 30 s" >&2
  tail -n 20 "$logs"/*.log >&2
  exit 1
}

start_internet() {
  ip link set lo up
  ip address add $internet/32 dev lo
  cat >"$logs/Corefile" <<END
.:53 {
  bind $internet
  hosts {
    $internet server.internet.test
  }
}
END
  echo "nameserver $internet" >"$logs/resolv.conf"
  mount --bind "$logs/resolv.conf" /etc/resolv.conf
  coredns -conf "$logs/Corefile" >"$logs/resolver.log" 2>&1 &
  agnhost netexec --http-port=80 --udp-port=-1 >"$logs/internet.log" 2>&1 &
  until_true "the server that plays the internet" curl -s http://server.internet.test/
}

# The images stay in the cache; containers, volumes and networks that a run left which was cut off go.
start_docker() {
  cat >"$logs/daemon.json" <<END
{
  "hosts": ["$DOCKER_HOST"], "pidfile": "/run/docker.pid", "exec-root": "/run/docker", "data-root": "$cache/docker",
  "bridge": "none", "cgroup-parent": "/slash32-kind", "storage-driver": "overlay2", "live-restore": false,
  "default-runtime": "wrapped", "runtimes": { "wrapped": { "path": "$here/runc-without-sys-resource" } }
}
END
  dockerd --config-file "$logs/daemon.json" >"$logs/dockerd.log" 2>&1 &
  until_true "the docker daemon" docker version
  docker ps -aq | xargs -r docker rm --force --volumes >/dev/null
  docker network prune --force >/dev/null
  docker volume prune --force >/dev/null
}

since=$SECONDS
mount -t tmpfs tmpfs /run
mkdir -p "$logs" /run/lock
start_internet
start_docker
say "docker daemon in namespaces of its own"
since=$SECONDS
NODE_IMAGE=$("$here/images.sh" "$cache")
say "images that are pulled elsewhere"
export NODE_IMAGE BINARIES=$SLASH32_BIN_DIR INTERNET_URL=http://server.internet.test/clientip
status=0
"$here/../../manifests/kind/try.sh" "$@" || status=$?
if [ "${1:-}" = up ]; then
  echo "the cluster stays until this is interrupted (Ctrl-C)"
  sleep infinity
fi
[ "$status" = 0 ] || cp "$logs"/*.log "$cache/" # for whoever looks into the failure
exit "$status"
