#!/usr/bin/env bash
# Debian as tars for 'make e2e-kind': what a node is made of, and what is below Slash32's image (with the packages that its
# Dockerfile asks for, as its build has no network there). Usage: bases.sh FOLDER. Made again when the packages change.
set -euo pipefail
folder=$1
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
mkdir -p "$folder"

# base NAME PACKAGE...
base() {
  local name=$1 packages root tar
  shift
  packages=$(IFS=,; echo "$*")
  tar="$folder/$name-$(sha256sum <<<"$packages" | cut -c1-12).tar"
  [ ! -e "$tar" ] || return 0
  echo "debootstrap of Debian bookworm for $name"
  root=$(mktemp -d "$folder/debootstrap.XXXXXX")
  if ! debootstrap --variant=minbase --include="$packages" bookworm "$root" "$mirror" >"$tar.log" 2>&1; then
    tail -20 "$tar.log" >&2
    rm -rf "$root"
    return 1
  fi
  rm -f "$folder/$name"-*.tar
  tar -C "$root" --exclude='./dev/*' --exclude='./var/cache/apt/*.bin' --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*' \
    --exclude='./usr/share/doc/*' --exclude='./usr/share/locale/*' -cf "$tar.new" .
  mv "$tar.new" "$tar"
  rm -rf "$root" "$tar.log"
}

base node systemd systemd-sysv dbus containerd runc containernetworking-plugins iptables nftables iproute2 kmod conntrack ethtool socat procps mount \
  curl iputils-ping ca-certificates jq
base slim nftables iptables ca-certificates
