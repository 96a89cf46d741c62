#!/usr/bin/env bash
# Every crate that goes into a binary must have a licence of this list: permissive ones only.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo metadata --locked --format-version 1 --filter-platform x86_64-unknown-linux-musl | python3 -c '
import json, re, sys
allowed = {"MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unicode-3.0", "CC0-1.0", "Unlicense", "0BSD", "BSL-1.0", "Apache-2.0 WITH LLVM-exception"}
def good(expression):
    "SPDX: OR needs one, AND needs all; the old slash means OR."
    expression = expression.replace("/", " OR ").strip()
    while expression.startswith("(") and expression.endswith(")") and expression[1:-1].count("(") == expression[1:-1].count(")") and ")" not in expression[1:-1].split("(")[0]:
        expression = expression[1:-1]
    parts = re.split(r"\s+AND\s+(?![^()]*\))", expression)
    if len(parts) > 1: return all(good(part) for part in parts)
    parts = re.split(r"\s+OR\s+(?![^()]*\))", expression)
    if len(parts) > 1: return any(good(part) for part in parts)
    return expression in allowed
packages = json.load(sys.stdin)["packages"]
bad = [(p["name"], p["version"], p["license"]) for p in packages if not good(p["license"] or "none")]
for name, version, licence in bad: print(f"{name} {version}: licence {licence} is not on the list of scripts/check-licences.sh", file=sys.stderr)
print(f"licences of {len(packages)} crates: " + ("fine" if not bad else f"{len(bad)} refused"))
sys.exit(bool(bad))
'
