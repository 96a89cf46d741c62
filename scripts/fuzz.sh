#!/usr/bin/env bash
# Fuzzes each target for some seconds, from the kept corpus: fuzz.sh SECONDS [TARGET...]. No nightly compiler is needed: without
# a sanitizer cargo-fuzz uses stable options only, and our own code has next to no unsafe part for one to watch.
# A crash is kept under fuzz/artifacts; it goes into fuzz/corpus with its mending, and so becomes a test.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
shift
[ $# -gt 0 ] || set -- cni_request settings nodes netlink nfnetlink state_files
command -v cargo-fuzz >/dev/null || { echo "installing cargo-fuzz 0.13.2 with cargo"; cargo install --quiet --locked cargo-fuzz@0.13.2; }
passed=0 failed=0
for target in "$@"; do
  log=$(mktemp)
  work=$(mktemp -d)
  # New inputs go into a folder of their own: the kept corpus stays small.
  features=()
  case $target in settings | nodes) features=(--features agent) ;; esac
  if cargo fuzz run -s none "${features[@]}" "$target" "$work" "fuzz/corpus/$target" -- -max_total_time="$seconds" -max_len=4096 -timeout=10 -print_final_stats=1 >"$log" 2>&1; then
    passed=$((passed + 1))
    echo "$target: $(sed -nE 's/^stat::number_of_executed_units: *//p' "$log") runs, $(grep -oE 'cov: [0-9]+' "$log" | tail -1)"
  else
    failed=$((failed + 1))
    tail -30 "$log"
    echo "$target: failed"
  fi
  rm -rf "$log" "$work"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
