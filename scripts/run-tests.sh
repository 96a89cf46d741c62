#!/usr/bin/env bash
# All tests, one suite after another; then one line that adds them up. A suite that fails does not
# stop the others; what was not run is counted as skipped, never as passed.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# --no-fail-fast: every suite reports. Suites on a real kernel take their programs from SLASH32_BIN_DIR.
cargo test --locked --workspace --no-fail-fast "$@" 2>&1 | tee "$log" | grep -vE '^\s+(Compiling|Running|Doc-tests)|^running [0-9]+ tests?$|^test .* \.\.\. ok$|^$'
status=${PIPESTATUS[0]}
count() { sed -nE "s/^test result: .* ([0-9]+) $1.*/\1/p" "$log" | awk '{n += $1} END {print n + 0}'; }
passed=$(count passed) failed=$(count failed) skipped=$(count ignored)
if [ "$skipped" -gt 0 ]; then
  echo "not run:"
  grep -E '^test .*(\.\.\. ignored)' "$log" | sed 's/^/  /'
fi
# Something that did not even build has no result line.
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
