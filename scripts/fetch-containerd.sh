#!/usr/bin/env bash
# Fetches two containerds and a runc as Debian packages into a folder, without installing anything: FOLDER/v1 is the one of this
# machine's own release (1.6 on Debian 12), FOLDER/v2 the first 2.x among Debian's newer releases; both with this machine's runc.
# What is there already is left alone. Usage: fetch-containerd.sh FOLDER
set -euo pipefail
out=$1
complete() { [ -x "$out/v1/containerd" ] && [ -x "$out/v2/containerd" ] && [ -x "$out/v1/runc" ] && [ -x "$out/v2/runc" ]; }
complete && exit 0
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# unpack PACKAGE-FILE FOLDER: its programs, without folders around them.
unpack() {
  rm -rf "$work/tree" && dpkg-deb -x "$1" "$work/tree" && mkdir -p "$2"
  for program in containerd containerd-shim-runc-v2 ctr runc; do
    for place in "$work/tree/usr/bin/$program" "$work/tree/usr/sbin/$program"; do
      if [ -f "$place" ]; then install -m 0755 "$place" "$2/$program"; break; fi
    done
  done
}

echo "fetching containerd and runc of this machine's release"
log=$work/log
{ apt-get update -qq && apt-get download -qq containerd runc; } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
for package in containerd_*.deb runc_*.deb; do unpack "$work/$package" "$out/v1"; done
cp "$out/v1/runc" "$work/runc" && rm -f ./*.deb

# The other releases come from where this machine's own comes from; its apt's lists and settings stay as they are.
origin=$(apt-get indextargets --format '$(REPO_URI)|$(ORIGIN)|$(RELEASE)' 'Created-By: Packages' \
  | awk -F'|' '$2 == "Debian" && $3 !~ /-/ {print $1; exit}')
[ -n "$origin" ] || { echo "$0: apt knows no source of Debian's packages here: fetch containerd 2.x into $out/v2 yourself" >&2; exit 1; }
for suite in trixie forky sid; do
  echo "looking for containerd 2.x in Debian $suite"
  mkdir -p "$suite/lists/partial" "$suite/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $origin $suite main" >"$suite/sources.list"
  options=(-o Dir::Etc::SourceList="$work/$suite/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State="$work/$suite"
    -o Dir::Cache="$work/$suite/cache" -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Languages=none)
  apt-get "${options[@]}" -qq update >"$log" 2>&1 || { cat "$log" >&2; continue; }
  [[ $(apt-cache "${options[@]}" policy containerd) == *"Candidate: 2."* ]] || continue
  apt-get "${options[@]}" download -qq containerd >"$log" 2>&1 || { cat "$log" >&2; continue; }
  unpack "$(echo "$work"/containerd_2*.deb)" "$out/v2"
  install -m 0755 "$work/runc" "$out/v2/runc"
  # A newer release's program may want a newer C library than this machine's.
  "$out/v2/containerd" --version && break
  rm -rf "$out/v2"
done
complete || { echo "$0: no containerd 2.x in Debian's releases runs on this machine" >&2; exit 1; }
