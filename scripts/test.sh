#!/usr/bin/env bash
# Runs every test, part by part, and says what each took. The first part that fails ends it.
# With CI set, tests fail where the machine lacks a part; elsewhere they are skipped by name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

table=
failed=

# part NAME COMMAND...: runs one part and notes its result and time.
part() {
  local name=$1 start=$SECONDS result=ok
  shift
  printf '\n== %s\n' "$name"
  "$@" || result=FAILED
  table+=$(printf '%-12s %-7s %5d s' "$name" "$result" $((SECONDS - start)))$'\n'
  [ "$result" = ok ] || { failed=$name; exit 1; }
}

report() {
  printf '\n%s%-12s %-7s %5d s\n' "$table" total "${failed:+FAILED}" "$SECONDS"
}
trap report EXIT

tools() {
  scripts/tools.sh envoy consul pebble || return
  SLUICE_ENVOY=$(scripts/tools.sh --print envoy) || return
  SLUICE_CONSUL_BINARY=$(scripts/tools.sh --print consul) || return
  SLUICE_PEBBLE=$(scripts/tools.sh --print pebble) || return
  export SLUICE_ENVOY SLUICE_CONSUL_BINARY SLUICE_PEBBLE
}

build() { go build -trimpath -o bin/sluice ./cmd/sluice; }

unit() {
  local dir dirs=()
  for dir in cmd envoy pkg examples policies; do
    [ -z "$(find "$dir" -name '*.go' -print -quit 2>/dev/null)" ] || dirs+=("./$dir/...")
  done
  go test -race "${dirs[@]}"
}

integration() { go test -race -p 1 -timeout 30m ./integration/... ./docs/...; }

part tools tools
part build build
part vet scripts/lint.sh
part unit unit
part integration integration
