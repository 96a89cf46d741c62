#!/usr/bin/env bash
# The tunnel suites on Debian's cloud kernel under qemu (software emulation), with IPIP: for machines whose own kernel has
# none. The suites' static test binaries and our static programs go into an initial RAM disk with the few programs that
# the lab calls; nothing is installed, nothing of this machine is changed. Ends with 'N passed, N failed, N skipped'.
#
#   SLASH32_VM_TUNNELS  which tunnels, default "ipip"; "ipip vxlan" runs the suites twice
#   SLASH32_VM_SUITES   which suites
#   CACHE               where the kernel is kept, default ~/.cache/slash32
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-musl
cache=${CACHE:-$HOME/.cache/slash32}/vm
tunnels=${SLASH32_VM_TUNNELS:-ipip}
read -ra suites <<<"${SLASH32_VM_SUITES:-tunnels_traffic tunnels_life tunnels_security tunnels_ipip}"
binaries=${SLASH32_BIN_DIR:?names the folder of slash32, slash32-ipam and slash32-agent; make test-vm sets it}
patience=${SLASH32_VM_PATIENCE:-540}
mkdir -p "$cache"

# Debian's own name for the newest one. Once downloaded it is kept.
kernel_package() {
  apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -nE 's/^ *Depends: (linux-image-[0-9].*)/\1/p' | head -1
}
fetch_kernel() {
  if compgen -G "$cache/root/boot/vmlinuz-*" >/dev/null; then return; fi
  local package
  package=$(kernel_package)
  if [ -z "$package" ]; then apt-get update -qq; package=$(kernel_package); fi
  [ -n "$package" ] || { echo "$0: no Debian cloud kernel in the package lists" >&2; exit 1; }
  echo "downloading $package"
  rm -rf "$cache/new" && mkdir -p "$cache/new/deb"
  (cd "$cache/new/deb" && apt-get download -qq "$package")
  dpkg -x "$cache"/new/deb/*.deb "$cache/new/root"
  rm -rf "$cache/root" && mv "$cache/new/root" "$cache/root" && rm -rf "$cache/new"
}

# A program, what it is linked with, and its interpreter.
add_program() {
  local path
  path=$(PATH="$PATH:/usr/sbin:/sbin" type -P "$1") || { echo "$0: $1 is missing" >&2; exit 1; }
  path=$(readlink -f "$path")
  install -D -m755 "$path" "$disk/bin/$1"
  # One that is static is linked with nothing.
  { ldd "$path" 2>/dev/null | grep -oE '/[^ ]+' || true; } | while read -r library; do
    [ -e "$disk$library" ] || install -D -m755 "$(readlink -f "$library")" "$disk$library"
  done
}

fetch_kernel
vmlinuz=$(compgen -G "$cache/root/boot/vmlinuz-*" | tail -1)
release=${vmlinuz##*/vmlinuz-}
work=$(mktemp -d)
disk=$work/disk
trap 'rm -rf "$work"' EXIT
mkdir -p "$disk"/{bin,sbin,proc,sys,dev,run,tmp,etc,var/lib,opt,usr/sbin,suites,ours,lib/modules}
ln -s ../bin "$disk/usr/bin"
ln -s /proc/mounts "$disk/etc/mtab"

flags=()
for suite in "${suites[@]}"; do flags+=(--test "$suite"); done
cargo test --quiet --locked --target "$target" -p slash32-tests --no-run "${flags[@]}"
for suite in "${suites[@]}"; do
  built=$(cargo test --locked --target "$target" -p slash32-tests --no-run --test "$suite" --message-format=json 2>/dev/null |
    sed -nE 's/.*"executable":"([^"]*\/'"$suite"'-[^"]*)".*/\1/p' | tail -1)
  strip -s -o "$disk/suites/$suite" "$built"
done
for program in slash32 slash32-ipam slash32-agent; do strip -s -o "$disk/ours/$program" "$binaries/$program"; done
for program in sh cat sed grep ip bridge nft ping sysctl unshare mount umount true sleep modprobe kmod busybox; do add_program "$program"; done
ln -sf ../bin/modprobe "$disk/sbin/modprobe"

# Of the modules: the network, the few devices, overlays, and what those need.
modules=$cache/root/lib/modules/$release
[ -d "$modules" ] || modules=$cache/root/usr/lib/modules/$release
to=$disk/lib/modules/$release
mkdir -p "$to/kernel/drivers/net"
for part in net crypto arch lib fs/overlayfs drivers/net/veth.ko drivers/net/dummy.ko drivers/net/vxlan; do
  if [ -e "$modules/kernel/$part" ]; then
    mkdir -p "$to/kernel/$(dirname "$part")"
    cp -r "$modules/kernel/$part" "$to/kernel/$part"
  fi
done
cp "$modules"/modules.{order,builtin,builtin.modinfo} "$to/"
depmod -b "$disk" "$release"

cat >"$disk/init" <<INIT
#!/bin/sh
export PATH=/bin:/sbin:/ours
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run; mount -t tmpfs tmp /tmp
ln -sf /proc/self/fd /dev/fd 2>/dev/null || busybox ln -sf /proc/self/fd /dev/fd
ip link set lo up
modprobe overlay
# At once, rather than one by one while a test waits.
modprobe -a veth bridge ipip vxlan nf_tables nft_chain_nat nft_masq nft_nat nft_fib_inet nft_ct nf_conntrack
export SLASH32_BIN_DIR=/ours NET_TESTS=1 RUST_BACKTRACE=0 SLASH32_SLOWNESS=8
for tunnel in $tunnels; do
  export SLASH32_TUNNEL=\$tunnel
  for suite in ${suites[*]}; do
    echo "== \$suite, \$tunnel, Linux $release"
    /suites/\$suite --color never 2>&1
  done
done
echo "== end"
busybox poweroff -f
INIT
chmod +x "$disk/init"
(cd "$disk" && find . -print0 | cpio --null --quiet -o -H newc | gzip -1) >"$work/initrd.gz"

log=$work/log
# A guest that hangs is ended; what it has told until then counts, and so does that it did not end.
timeout "$patience" qemu-system-x86_64 -accel tcg -m 1536 -smp 2 -nographic -no-reboot -nodefaults -serial stdio \
  -kernel "$vmlinuz" -initrd "$work/initrd.gz" -append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off" </dev/null 2>&1 |
  stdbuf -oL tr -d '\r' | tee "$log" | { grep --line-buffered -vE '^test .* \.\.\. ok$|^running |^$' || true; }
count() { sed -nE "s/^test result: .* ([0-9]+) $1.*/\1/p" "$log" | awk '{n += $1} END {print n + 0}'; }
passed=$(count passed) failed=$(count failed) skipped=$(count ignored)
wanted=$((${#suites[@]} * $(wc -w <<<"$tunnels")))
told=$(grep -c '^test result: ' "$log" || true)
if ! grep -q '^== end' "$log" || [ "$told" -ne "$wanted" ]; then
  echo "the machine told $told of $wanted results, or did not end by itself"
  failed=$((failed + 1))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
