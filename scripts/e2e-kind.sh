#!/usr/bin/env bash
# make e2e-kind: manifests/kind/try.sh with the real kind, on a machine that can pull no image. Everything runs in namespaces
# of its own and goes with them, also when this is interrupted; images stay in CACHE. Usage: e2e-kind.sh CACHE [arguments of try.sh].
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$1
[ "$(id -u)" = 0 ] || { echo "$0: not root; run: sudo make e2e-kind" >&2; exit 1; }
[ -d /sys/fs/cgroup/cpuset ] || { echo "$0: the node image made here is for cgroup v1; this machine can run manifests/kind/try.sh itself" >&2; exit 1; }
: "${SLASH32_K8S_TOOLS:?the folder that scripts/build-k8s-tools.sh filled}" "${SLASH32_BIN_DIR:?the folder of the three binaries}"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock --nonblock 9 || { echo "$0: another run holds $cache/lock" >&2; exit 1; }

modules=$([ -e /lib/modules ] && echo there || echo missing)
box=

remove_cgroups() {
  local _
  for _ in $(seq 100); do
    find /sys/fs/cgroup/*/slash32-kind -depth -type d -exec rmdir {} + 2>/dev/null || true
    compgen -G '/sys/fs/cgroup/*/slash32-kind' >/dev/null || return 0
    sleep 0.1
  done
  echo "$0: cgroups are left: $(echo /sys/fs/cgroup/*/slash32-kind)" >&2
  return 1
}

# The kernel ends all processes of a process namespace with its first one; mounts, links and rules go with the last process.
leave_nothing() {
  local status=$?
  trap - EXIT INT TERM
  [ -z "$box" ] || kill -KILL "$box" 2>/dev/null || true
  [ -z "$box" ] || wait "$box" 2>/dev/null || true
  remove_cgroups || status=1
  # Docker makes the folder that kind mounts into each node.
  [ "$modules" = there ] || rmdir /lib/modules 2>/dev/null || true
  exit "$status"
}
trap leave_nothing EXIT
trap 'exit 130' INT TERM

tests/kind/bases.sh "$cache"
unshare --net --mount --ipc --pid --fork --kill-child --mount-proc --propagation private tests/kind/box.sh "$@" 9>&- &
box=$!
if [ "${2:-}" = up ]; then
  inside="PATH=$SLASH32_K8S_TOOLS:\$PATH DOCKER_HOST=unix:///run/docker.sock KUBECONFIG=/run/slash32-kind/kubeconfig bash"
  echo "to enter: nsenter --target $(pgrep --parent $box) --net --mount --pid --ipc env $inside"
fi
wait "$box"
