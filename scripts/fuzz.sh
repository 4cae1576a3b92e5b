#!/usr/bin/env bash
# Runs every fuzz target of the module for $FUZZTIME (30s), one after another.
# An input that fails is kept by Go in the package's testdata/fuzz, to be committed with the fix.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# go test -list prints a package's targets, and then "ok" with the package's name.
listing=$(go test -list '^Fuzz' ./...) || { echo "$listing" >&2; exit 1; }
targets=$(awk '/^Fuzz/ {name[++n] = $1} /^ok/ {for (i = 1; i <= n; i++) print $2, name[i]; n = 0}' <<<"$listing")
[ -n "$targets" ] || { echo "fuzz: no fuzz targets found" >&2; exit 1; }

while read -r package name; do
  echo "== $package $name"
  go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-30s}" "$package" </dev/null
done <<<"$targets"
