#!/usr/bin/env bash
# Installs what 'demo', 'test' or 'e2e' needs and is not there, and says what. Debian and Ubuntu; needs root
# only where something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# program:package
demo=(ip:iproute2 nft:nftables ping:iputils-ping cc:gcc musl-gcc:musl-tools unshare:util-linux mount:mount sysctl:procps)
test=(conntrack:conntrack iptables:iptables strace:strace /usr/lib/cni/ptp:containernetworking-plugins python3:python3 tcpdump:tcpdump jq:jq iperf3:iperf3 openssl:openssl radvd:radvd firewalld:firewalld dbus-daemon:dbus iptables-legacy:iptables)
e2e=(busybox:busybox-static dig:bind9-dnsutils iperf:iperf nc.openbsd:netcat-openbsd curl:curl wget:wget conntrack:conntrack
  iptables:iptables ethtool:ethtool socat:socat dpkg-deb:dpkg /usr/lib/cni/ptp:containernetworking-plugins
  "/usr/lib/$(uname -m)-linux-gnu/libseccomp.so.2:libseccomp2")
kind=(dockerd:docker.io debootstrap:debootstrap jq:jq curl:curl pgrep:procps flock:util-linux)
vm=(qemu-system-x86_64:qemu-system-x86 busybox:busybox-static depmod:kmod cpio:cpio strip:binutils)

wanted=("${demo[@]}")
case "${1:-demo}" in
  demo) ;;
  test) wanted+=("${test[@]}") ;;
  vm) wanted+=("${vm[@]}") ;;
  e2e) wanted+=("${e2e[@]}") ;;
  kind) wanted+=("${kind[@]}") ;;
  *) echo "usage: $0 demo|test|e2e|kind|vm" >&2; exit 2 ;;
esac

missing=()
for entry in "${wanted[@]}"; do
  program=${entry%%:*}
  [[ $program == /* && -e $program ]] || PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1 || missing+=("${entry##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing with apt-get: ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    echo "$0: not root; run: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
  command -v apt-get >/dev/null || { echo "$0: no apt-get here; install these yourself: ${missing[*]}" >&2; exit 1; }
  log=$(mktemp)
  # Debian starts a daemon when it installs one; a docker daemon would change this machine's network.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 \
    || { cat "$log" >&2; exit 1; }
  rm -f "$log"
fi

command -v rustup >/dev/null || { echo "$0: rustup is missing: https://rustup.rs tells how to install it" >&2; exit 1; }
# rust-toolchain.toml says which; rustup does it by itself only where RUSTUP_AUTO_INSTALL is not 0.
if ! rustup target list --installed 2>/dev/null | grep -q x86_64-unknown-linux-musl || ! cargo --version >/dev/null 2>&1; then
  echo "installing with rustup: the toolchain and target of rust-toolchain.toml"
  rustup toolchain install >/dev/null 2>&1 || rustup toolchain install
fi

if [ "${1:-demo}" = e2e ] && ! command -v go >/dev/null; then
  echo "$0: Go is missing: Kubernetes is built from its modules (tests/k8s/go.mod says which version of Go)" >&2
  exit 1
fi
if [ "${1:-demo}" = test ] && ! command -v go >/dev/null; then
  echo "no Go here: tests that use cnitool and libcni will be told as not run (install golang to run them)"
fi
